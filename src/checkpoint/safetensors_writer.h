#pragma once
// Writing safetensors: the header first, from the shapes alone, then the tensors' bytes in that order, as they come. A
// tensor larger than memory can be written row by row.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tensor/dtype.h"

namespace cajal {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
};
using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

// The data area begins at a multiple of `data_alignment` bytes, itself one of 8.
// The file appears under its name when finish() has returned; until then it is <path>.partial, and a writer that is
// destroyed before removes that. Errors: Error(invalid_argument) for names or shapes that the format does not allow,
// Error(unavailable) for what the system says, naming the path.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::string path, std::span<const SafetensorsEntry> tensors,
                    const SafetensorsMetadata& metadata = {}, std::uint64_t data_alignment = 8);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  void append(std::span<const std::byte> bytes);  // the next bytes of the data area; not beyond its end
  void finish();                                  // when all bytes of all tensors are there

 private:
  void write(std::span<const std::byte> bytes);

  std::string path_, temporary_;
  int fd_ = -1;
  std::uint64_t data_bytes_ = 0, appended_ = 0;
};

struct SafetensorsContent {
  SafetensorsEntry entry;
  std::span<const std::byte> bytes;
};
void write_safetensors(const std::string& path, std::span<const SafetensorsContent> tensors,
                       const SafetensorsMetadata& metadata = {});

}  // namespace cajal
