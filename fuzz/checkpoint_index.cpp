// Any bytes as a model.safetensors.index.json: parsing ends in an Error or in tensors, each once, in files of the folder.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/quantized_names.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::pair<std::string, std::string>> entries;
  try {
    entries = cajal::parse_checkpoint_index(text, "input");
  } catch (const cajal::Error& e) {
    CAJAL_CHECK(e.code() == cajal::ErrorCode::data_loss, e.what());
    return 0;
  }
  CAJAL_CHECK(!entries.empty());
  std::vector<std::string_view> names;
  std::vector<cajal::TensorSight> sights;
  for (const auto& [tensor, file] : entries) {
    CAJAL_CHECK(names.empty() || names.back() < tensor, "sorted, each once");
    CAJAL_CHECK(file.find_first_of("/\\") == std::string::npos && file.front() != '.' && file.size() <= 255, file);
    CAJAL_CHECK(file.ends_with(".safetensors") && file.find('\0') == std::string::npos, file);
    names.push_back(tensor);
    sights.push_back({tensor, "BF16"});
  }
  cajal::find_quantized_sign(sights);
  const std::string near = cajal::nearest_name("model.norm.weight", names);
  CAJAL_CHECK(near.empty() || std::find(names.begin(), names.end(), near) != names.end());
  return 0;
}
