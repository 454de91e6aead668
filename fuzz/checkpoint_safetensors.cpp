// Any bytes as a safetensors file: parsing ends in an Error or in tensors that cover the data area exactly, each as large
// as its type and shape say. The two bytes in front vary how large the file claims to be.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "checkpoint/safetensors.h"

namespace {

void check(const cajal::SafetensorsHeader& header, std::uint64_t file_size) {
  std::uint64_t end = 0;
  for (const cajal::SafetensorsTensor& tensor : header.tensors()) {
    CAJAL_CHECK(tensor.begin == end, tensor.name);
    end += tensor.size;
    CAJAL_CHECK(header.find(tensor.name) == &tensor, tensor.name);
    CAJAL_CHECK(tensor.shape.size() <= cajal::kMaxSafetensorsRank);
    unsigned __int128 bits = static_cast<unsigned>(tensor.dtype->bits);
    for (const std::int64_t d : tensor.shape) bits = d == 0 ? 0 : bits * static_cast<std::uint64_t>(d);
    CAJAL_CHECK(bits == static_cast<unsigned __int128>(tensor.size) * 8, tensor.name, tensor.shape_text());
  }
  CAJAL_CHECK(header.data_begin() + end == file_size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::uint64_t claimed = static_cast<std::uint64_t>(data[0]) << 8 | data[1];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::uint64_t file_size = bytes.size() + claimed;  // the data of the tensors need not be in the input
  try {
    check(cajal::SafetensorsHeader::parse(bytes, file_size, "input"), file_size);
  } catch (const cajal::Error& e) {
    CAJAL_CHECK(e.code() == cajal::ErrorCode::data_loss || e.code() == cajal::ErrorCode::unsupported, e.what());
  }
  // The same header as a file's: its own length in front, so that a mutation of the text does not spoil it.
  std::string file(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(bytes.size() >> 8 * i & 0xff);
  file += bytes;
  try {
    check(cajal::SafetensorsHeader::parse(file, file.size() + claimed, "input"), file.size() + claimed);
  } catch (const cajal::Error&) {
    return 0;
  }
  return 0;
}
