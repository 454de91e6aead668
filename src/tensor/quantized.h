#pragma once
// Rows in Quantized storage: how a group of numbers becomes integers and a scale, and where both lie.
//
// An integer q stands for q * scale; 8 bits hold -127..127 and 4 bits -8..7. In memory they have an offset that makes them
// unsigned, q + 128 and q + 8, because the dot-product instructions of CPUs multiply unsigned bytes by signed ones. A
// matrix is cut into tiles of `tile_rows` rows, and a tile into groups of `group_size` columns. A group is
//   scales[tile_rows] f16, then integers: 8 bits as [group_size / 4][tile_rows][4], 4 bits as [group_size / 8][tile_rows][4]
// bytes, of which each holds column j of its eight in the low half and column 4 + j in the high one. Rows of padding have
// scales of zero; columns of padding integers of zero.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/checked.h"
#include "tensor/tensor.h"

namespace cajal {

// One matrix [rows, columns]; sizes are in bytes where a name says so.
struct QuantizedLayout {
  Quantized storage;
  std::int64_t rows, columns;

  std::int64_t groups() const { return ceil_div<std::int64_t>(columns, storage.group_size); }
  std::int64_t tiles() const { return ceil_div<std::int64_t>(rows, storage.tile_rows); }
  std::int64_t scales_bytes() const { return std::int64_t{2} * storage.tile_rows; }
  std::int64_t group_bytes() const {
    return scales_bytes() + std::int64_t{storage.tile_rows} * storage.group_size * storage.bits / 8;
  }
  std::int64_t tile_bytes() const { return groups() * group_bytes(); }
  std::int64_t matrix_bytes() const { return tiles() * tile_bytes(); }

  std::int64_t scale_at(std::int64_t n, std::int64_t group) const {
    return n / storage.tile_rows * tile_bytes() + group * group_bytes() + n % storage.tile_rows * 2;
  }
  // The byte of column `k` of a group (in 4 bits shared with column k + 4 or k - 4).
  std::int64_t integer_at(std::int64_t n, std::int64_t group, std::int64_t k) const {
    const std::int64_t step = storage.bits == 8 ? 4 : 8;
    return n / storage.tile_rows * tile_bytes() + group * group_bytes() + scales_bytes() +
           (k / step * storage.tile_rows + n % storage.tile_rows) * 4 + k % 4;
  }
};

constexpr int kInt8Offset = 128, kInt4Offset = 8;
constexpr int quantized_offset(int bits) { return bits == 8 ? kInt8Offset : kInt4Offset; }

// The integer of row n, column k of group `group`, without its offset; and the scale.
int quantized_integer(const QuantizedLayout& layout, const std::byte* matrix, std::int64_t n, std::int64_t group,
                      std::int64_t k);
float quantized_scale(const QuantizedLayout& layout, const std::byte* matrix, std::int64_t n, std::int64_t group);

// Rounds one group of a row. 8 bits: the scale is the largest magnitude / 127, rounded to f16, and each number goes to the
// nearest integer. 4 bits: the number of largest magnitude first becomes -8, whatever its sign, so that all sixteen values
// are of use; then the scale becomes the one with the least squared error for these integers, and they are rounded anew.
// Returns the scale, a value of f16; not finite if the numbers are not, or are too large for it.
float quantize_group(std::span<const float> group, int bits, std::int8_t* integers);

// pack_rows and unpack_rows of pack.h.
void pack_quantized_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* rows,
                         std::byte* stored);
void unpack_quantized_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows,
                           const std::byte* stored, std::byte* rows);

}  // namespace cajal
