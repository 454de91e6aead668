#pragma once
// A model's weights on disk: a folder with model.safetensors, or else with model.safetensors.index.json and the files it names.
// Nothing else in the folder is looked at.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/safetensors.h"

namespace cajal {

// One tensor and the file that holds it; valid as long as the checkpoint.
struct CheckpointTensor {
  const SafetensorsFile* file = nullptr;
  const SafetensorsTensor* tensor = nullptr;
};

class Checkpoint {
 public:
  // Opens the folder and checks every file. Throws Error: (not_found) says what stands there instead, (data_loss) names
  // the broken file, (unsupported) names the format of a quantised checkpoint and the tensor that shows it.
  explicit Checkpoint(const std::string& folder);

  // The tensor of that name. A leading "model." may be absent in the checkpoint or in the question: embedding models are
  // published without it. An exact match goes first.
  std::optional<CheckpointTensor> find(std::string_view name) const;
  // The same, or Error(not_found) that names the tensor, where it was looked for, and the most similar name there.
  CheckpointTensor require(std::string_view name) const;

  const std::string& path() const {
    return path_;
  }  // model.safetensors or the index: what says which tensors there are
  std::size_t num_tensors() const { return tensors_.size(); }
  std::uint64_t bytes() const;  // of all tensors

 private:
  struct Entry {
    std::string name;
    CheckpointTensor where;
  };
  void open_index();
  void open_single();
  void refuse_quantized() const;
  const Entry* find_exact(std::string_view name) const;

  std::string folder_, path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<Entry> tensors_;  // by name
};

// The weight_map of a model.safetensors.index.json: (tensor, file), by tensor. `what` names the file in messages. Throws
// Error(data_loss) for anything but plain *.safetensors names of files in the same folder.
std::vector<std::pair<std::string, std::string>> parse_checkpoint_index(std::string_view json, const std::string& what);

// The most similar of `names` to `name`, if any is close enough to be worth mentioning; empty otherwise.
std::string nearest_name(std::string_view name, const std::vector<std::string_view>& names);

}  // namespace cajal
