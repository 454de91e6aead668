#pragma once
// Weights as a target's kernels read them, in a safetensors file whose tensors begin at pages: it is mapped, and used as it
// lies. Tiles show as dimensions of their own, so that any reader of the format can take them apart.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/thread_pool.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"
#include "tensor/tensor.h"

namespace cajal {

inline constexpr std::uint64_t kWeightAlignment = 4096;  // of each tensor, in the file and so in memory

struct PreparedTensor {
  std::string name;
  TensorType type;
  std::uint64_t checksum = 0;  // checksum_of_pieces of type.bytes() bytes
};

// The file appears under its name when finish() has returned, as SafetensorsWriter's does.
class PreparedWeightsWriter {
 public:
  PreparedWeightsWriter(std::string path, std::vector<PreparedTensor> tensors);

  // The next tensor in order, all of its type.bytes() bytes.
  void append(std::span<const std::byte> bytes, ThreadPool& pool);
  void finish() { writer_.finish(); }
  std::span<const PreparedTensor> tensors() const { return tensors_; }  // with the checksums of what was appended

 private:
  std::vector<PreparedTensor> tensors_;
  SafetensorsWriter writer_;
  std::size_t next_ = 0;
};

class PreparedWeights {
 public:
  // Opens a file that must hold exactly these tensors, in this order. Error(not_found), or (data_loss) that names what
  // differs. Looks at no byte of a tensor.
  PreparedWeights(const std::string& path, std::vector<PreparedTensor> tensors);

  std::span<const PreparedTensor> tensors() const { return tensors_; }
  std::span<const std::byte> bytes(std::size_t i) const { return places_[i]; }  // of tensor i
  // Reads all of it, which also brings it into memory. Error(data_loss) names the first tensor that was changed,
  // or of which kernels could not read all.
  void verify(ThreadPool& pool) const;

 private:
  std::vector<PreparedTensor> tensors_;
  MappedFile file_;
  std::vector<std::span<const std::byte>> places_;  // by tensor
};

}  // namespace cajal
