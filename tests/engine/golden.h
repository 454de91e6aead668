#pragma once
// Cases of tests/data/goldens: a tiny checkpoint, and what Hugging Face Transformers computed with it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "engine/model.h"

namespace cajal {

// Those of the repository, and those under the folder that CAJAL_GOLDENS names, if it does.
inline std::vector<std::string> golden_folders() {
  std::vector<std::string> roots{CAJAL_TEST_DATA "/goldens"}, folders;
  if (const char* more = std::getenv("CAJAL_GOLDENS")) roots.emplace_back(more);
  for (const auto& root : roots)
    for (const auto& entry : std::filesystem::directory_iterator(root))
      if (file_exists(entry.path() / "expected.safetensors")) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

template <class T>
std::vector<T> read_tensor(const SafetensorsFile& file, std::string_view name) {
  const auto* tensor = file.find(name);
  if (!tensor) return {};
  std::vector<T> values(tensor->size / sizeof(T));
  file.read(*tensor, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

struct Golden {
  explicit Golden(const std::string& path) : folder(path), expected(path + "/expected.safetensors") {
    for (const auto id : read_tensor<std::int64_t>(expected, "input_ids"))
      input_ids.push_back(static_cast<std::int32_t>(id));
    for (const auto id : read_tensor<std::int64_t>(expected, "greedy")) greedy.push_back(static_cast<std::int32_t>(id));
    logits = read_tensor<float>(expected, "logits");
    positions = read_tensor<std::int64_t>(expected, "logits_positions");
    if (positions.empty())
      for (std::size_t i = 0; i < input_ids.size(); ++i) positions.push_back(static_cast<std::int64_t>(i));
  }
  std::string name() const { return std::filesystem::path(folder).filename(); }

  std::string folder;
  SafetensorsFile expected;
  std::vector<std::int32_t> input_ids, greedy;
  std::vector<float> logits;            // [positions, vocab_size]
  std::vector<std::int64_t> positions;  // the tokens after which they are
};

}  // namespace cajal
