#pragma once
// Reading the safetensors format: 8 bytes with the length of a JSON header, the header, then the tensors' bytes. A header
// comes from a stranger; nothing of it is believed until it adds up to exactly the file that it stands in.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "tensor/dtype.h"

namespace cajal {

inline constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
inline constexpr std::size_t kMaxSafetensorsTensors = 200'000;
inline constexpr std::size_t kMaxTensorNameBytes = 512;
inline constexpr std::size_t kMaxSafetensorsRank = 8;

// An element type of the format. All are recognised, so that messages can name them; `dtype` is ours if we have it.
struct SafetensorsDType {
  std::string_view name;  // "BF16"
  int bits;
  std::optional<DType> dtype;
};
const SafetensorsDType* find_safetensors_dtype(std::string_view name);  // null if the format has no such type
const SafetensorsDType& safetensors_dtype(DType dtype);

struct SafetensorsTensor {
  std::string name;
  const SafetensorsDType* dtype = nullptr;
  std::vector<std::int64_t> shape;    // row-major; empty for a scalar
  std::uint64_t begin = 0, size = 0;  // bytes; `begin` counts from the start of the data area

  std::string shape_text() const;  // "[2048,1024]"
};

// A header that passed every check: known types, sizes that fit, tensors that cover the data area without hole or overlap.
class SafetensorsHeader {
 public:
  // `bytes` is the beginning of a file of `file_size` bytes, at least as far as the header reaches; `what` names the file.
  // Throws Error(data_loss) that says what is wrong and, where that can be told, what the file is instead.
  static SafetensorsHeader parse(std::string_view bytes, std::uint64_t file_size, const std::string& what);
  // Length of the JSON, from the first bytes of a file (at least 8, or all of a shorter one); the same errors.
  static std::uint64_t json_bytes(std::string_view start, std::uint64_t file_size, const std::string& what);

  std::span<const SafetensorsTensor> tensors() const { return tensors_; }  // in the order of their bytes
  const SafetensorsTensor* find(std::string_view name) const;              // null if there is none
  std::uint64_t data_begin() const { return data_begin_; }                 // offset of the data area in the file
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }

 private:
  std::vector<SafetensorsTensor> tensors_;
  std::vector<std::uint32_t> by_name_;
  std::uint64_t data_begin_ = 0;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);  // Error(not_found) or (data_loss)

  const std::string& path() const { return file_.path(); }
  std::span<const SafetensorsTensor> tensors() const { return header_.tensors(); }
  const SafetensorsTensor* find(std::string_view name) const { return header_.find(name); }
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return header_.metadata(); }
  // Fills `into` with the tensor's bytes from byte `offset` on. Any number of threads may read at once.
  void read(const SafetensorsTensor& tensor, std::uint64_t offset, std::span<std::byte> into) const;

 private:
  File file_;
  SafetensorsHeader header_;
};

}  // namespace cajal
