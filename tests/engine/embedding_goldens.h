#pragma once
// Cases of tests/data/goldens_embedding: a tiny checkpoint with its tokenizer, and what Hugging Face computed with it.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "engine/model.h"
#include "engine/test_device.h"
#include "text/tokenizer.h"

namespace cajal {

// Those whose expected.json has `member`: "texts" or "pairs".
inline std::vector<std::string> embedding_golden_folders(const char* member) {
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(CAJAL_TEST_DATA "/goldens_embedding")) {
    const std::string file = entry.path().string() + "/expected.json";
    if (file_exists(file) && parse_json(read_file(file), file).find(member)) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

inline std::string folder_name(const testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).filename();
}

struct EmbeddingGolden {
  explicit EmbeddingGolden(const std::string& folder, const char* member)
      : cases(*parse_json(read_file(folder + "/expected.json"), folder).find(member)),
        tokenizer(Tokenizer::from_folder(folder)),
        model({.folder = folder, .dtype = DType::f32}, *backend) {}

  Json cases;
  std::unique_ptr<Backend> backend = test_backend(2);
  Tokenizer tokenizer;
  Model model;
};

inline std::vector<std::int32_t> ids_of(const Json& list) {
  std::vector<std::int32_t> ids;
  for (const Json& id : list.as_array()) ids.push_back(static_cast<std::int32_t>(id.as_int()));
  return ids;
}

inline std::optional<std::string> text_if_any(const Json& object, const char* key) {
  const Json* value = object.find(key);
  return value ? std::optional(value->as_string()) : std::nullopt;
}

}  // namespace cajal
