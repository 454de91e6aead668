#pragma once
// Folders, files and tensors for the tests of this layer; all of them made here, none downloaded.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/safetensors_writer.h"
#include "tensor/tensor.h"

namespace cajal::test {

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cajal-checkpoint-XXXXXX").string();
    CAJAL_CHECK(::mkdtemp(pattern.data()));
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, std::string_view content) const {
    write_file(file(name), content);
    return file(name);
  }

 private:
  std::string path_;
};

// A file with this header, exactly as given, and `data_bytes` bytes of data.
inline std::string safetensors_bytes(std::string_view header, std::size_t data_bytes) {
  std::string file(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> 8 * i & 0xff);
  return file + std::string(header) + std::string(data_bytes, 'x');
}

// One tensor with the bytes that belong to it.
struct Stored {
  DType dtype = DType::bf16;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};
using StoredTensors = std::map<std::string, Stored>;

inline Stored random_tensor(DType dtype, std::vector<std::int64_t> shape, std::mt19937& random) {
  std::int64_t elements = 1;
  for (const std::int64_t d : shape) elements *= d;
  Stored tensor{dtype, std::move(shape), {}};
  tensor.bytes.resize(static_cast<std::size_t>(elements) * size_of(dtype));
  std::uniform_real_distribution<float> values(-2, 2);
  for (std::size_t i = 0; i < static_cast<std::size_t>(elements); ++i) {
    const float value = values(random);
    const std::uint16_t half = dtype == DType::bf16 ? float_to_bf16(value) : float_to_f16(value);
    if (dtype == DType::f32)
      std::memcpy(tensor.bytes.data() + i * 4, &value, 4);
    else
      std::memcpy(tensor.bytes.data() + i * 2, &half, 2);
  }
  return tensor;
}

inline void write_tensors(const std::string& path, const StoredTensors& tensors) {
  std::vector<SafetensorsContent> contents;
  for (const auto& [name, tensor] : tensors) contents.push_back({{name, tensor.dtype, tensor.shape}, tensor.bytes});
  write_safetensors(path, contents, {{"format", "pt"}});
}

// The message with its remedy, or "no error".
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// Undoes the storage of a matrix, element by element: independent of how it was packed.
inline std::vector<std::byte> unpacked(const TensorType& type, const std::byte* stored) {
  const std::int64_t rows = type.shape[-2], columns = type.shape[-1];
  const std::size_t size = size_of(type.dtype);
  std::vector<std::byte> plain(static_cast<std::size_t>(type.shape.elements()) * size);
  const auto* packed = std::get_if<Packed>(&type.storage);
  if (!packed) {
    std::memcpy(plain.data(), stored, plain.size());
    return plain;
  }
  const auto up = [](std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; };
  const std::int64_t padded_rows = up(rows, packed->rows), padded_columns = up(columns, packed->group);
  const std::int64_t matrices = type.shape.rank() == 3 ? type.shape[0] : 1;
  for (std::int64_t m = 0; m < matrices; ++m)
    for (std::int64_t n = 0; n < rows; ++n)
      for (std::int64_t k = 0; k < columns; ++k) {
        const std::int64_t from = m * padded_rows * padded_columns + packed_index(*packed, padded_columns, n, k);
        std::memcpy(plain.data() + static_cast<std::size_t>((m * rows + n) * columns + k) * size,
                    stored + static_cast<std::size_t>(from) * size, size);
      }
  return plain;
}

}  // namespace cajal::test
