#pragma once
// The configurations of the released models, in bench/shapes.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "models/qwen3.h"

namespace cajal {

inline std::string shape_folder(const std::string& name) { return CAJAL_SOURCE_DIR "/bench/shapes/" + name; }

inline std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(CAJAL_SOURCE_DIR "/bench/shapes"))
    if (entry.is_directory()) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

inline Graph shape_graph(const Qwen3Config& config, const Bucket& bucket = {}, DType dtype = DType::bf16) {
  Qwen3GraphOptions options{.bucket = bucket, .dtype = dtype};
  if (config.tie_word_embeddings) options.lm_head_tensor = options.embedding_tensor;
  return build_qwen3(config, options);
}

}  // namespace cajal
