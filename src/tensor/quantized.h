#pragma once
// Rows in Quantized storage: how a row of numbers becomes integers and scales, and where they lie.
//
// An integer q stands for q * u * 2^e: u is an integer too, -127..127 but not 0, one for each group of columns of a row, and e
// is one of the row. So a weight is an f32 exactly. 8 bits hold -127..127 and 4 bits -8..7. In memory q has an offset that makes
// it unsigned, q + 128 and q + 8, because the dot-product instructions of CPUs multiply unsigned bytes by signed ones. A matrix
// is cut into tiles of `tile_rows` rows, and a tile into groups of `group_size` columns. A group is
//   u[tile_rows] i8, then integers: 8 bits as [group_size / 4][tile_rows][4], 4 bits as [group_size / 8][tile_rows][4]
// bytes, of which each holds column j of its eight in the low half and column 4 + j in the high one. Behind a tile's groups are
// e[tile_rows] i8. Columns and rows of padding, as all groups of zeros, have q = 0 and u = 1; rows of zeros e = 0.
#include <cstddef>
#include <cstdint>
#include <optional>
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
  std::int64_t scales_bytes() const { return storage.tile_rows; }  // of a group
  std::int64_t group_bytes() const {
    return scales_bytes() + std::int64_t{storage.tile_rows} * storage.group_size * storage.bits / 8;
  }
  std::int64_t exponents_bytes() const { return storage.tile_rows; }  // of a tile
  std::int64_t tile_bytes() const { return groups() * group_bytes() + exponents_bytes(); }
  std::int64_t matrix_bytes() const { return tiles() * tile_bytes(); }

  std::int64_t exponent_at(std::int64_t n) const {
    return n / storage.tile_rows * tile_bytes() + groups() * group_bytes() + n % storage.tile_rows;
  }
  std::int64_t scale_at(std::int64_t n, std::int64_t group) const {
    return n / storage.tile_rows * tile_bytes() + group * group_bytes() + n % storage.tile_rows;
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
constexpr int kMostScale = 127;  // the largest u

// Weights from this magnitude on are refused, and rows whose exponent would be less than kLeastRowExponent count as zeros. So no
// product with activations leaves the normal numbers of f32 (quant_blocks.h bounds those), and multiplying by 2^e rounds nothing.
constexpr float kTooLargeWeight = 0x1p32f;
constexpr int kLeastRowExponent = -56;

// The integer of row n, column k of group `group`, without its offset; the group's u; the row's 2^e.
int quantized_integer(const QuantizedLayout& layout, const std::byte* matrix, std::int64_t n, std::int64_t group,
                      std::int64_t k);
int quantized_scale(const QuantizedLayout& layout, const std::byte* matrix, std::int64_t n, std::int64_t group);
float quantized_row_scale(const QuantizedLayout& layout, const std::byte* matrix, std::int64_t n);

// The largest magnitude of row[columns] of bf16 or f32; not finite if one of them is not.
float largest_of_row(DType dtype, const std::byte* row, std::int64_t columns);

// The e of a row whose largest magnitude is `largest`: the least with which u can hold that; nothing if the row counts as zeros.
std::optional<int> choose_exponent(float largest, int bits);

// Rounds one group of a row, all finite, and returns its u, where row_scale is 2^e. 8 bits: the least u that holds the group's
// largest magnitude with 127, or the next larger, whichever has the least squared error. 4 bits: the number of largest
// magnitude first becomes -8, whatever its sign (u may be negative), so that all sixteen values are of use; of the scale with
// the least squared error for these integers, of a sixteenth less and a sixteenth more that with the least error after rounding
// anew is taken.
int quantize_group(std::span<const float> group, float row_scale, int bits, std::int8_t* integers);

// pack_rows and unpack_rows of pack.h.
void pack_quantized_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* rows,
                         std::byte* stored, const float* largest);
void unpack_quantized_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows,
                           const std::byte* stored, std::byte* rows);

}  // namespace cajal
