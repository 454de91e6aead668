#pragma once
// How Lossless storage lies in memory: 12 bits for a weight of bf16, from which its 16 come back as they were.
//
// The low byte of a weight (the lowest bit of its exponent, and its mantissa) is as good as random and kept. The high byte
// (its sign, and seven bits of exponent) of trained weights is nearly always one of a few, so four bits say which of the 16
// most frequent ones of its tile. The others are *escapes*: listed with their places, of which a tile has a fixed number, so
// that a shape says how many bytes a tensor has.
//
// A matrix is cut into tiles of 16 rows. A tile is a head, the 16 high bytes and then the escapes, followed by units of 8
// columns: low bytes [2][64], then codes [64]. Byte b of half h, and the lower (h = 0) or the upper half of byte b of the
// codes, are of column 4 h + b / 8 % 2 * 2 + b % 2 and row b / 16 * 4 + b % 8 / 2: interleaved bytewise within 16 bytes, as
// processors do it, halves become what Packed{16, 2} stores.
#include <cstddef>
#include <cstdint>

#include "base/checked.h"
#include "tensor/tensor.h"

namespace cajal {

// One matrix [rows, columns].
struct LosslessLayout {
  static constexpr std::int64_t kTileRows = 16, kUnitColumns = 8, kUnitWeights = 128, kUnitBytes = 192;
  static constexpr std::int64_t kTableBytes = 16, kLowBytes = 128;
  static constexpr std::int64_t kMaxColumns = std::int64_t{1} << 19;  // what an escape can say

  std::int64_t rows, columns;

  std::int64_t units() const { return ceil_div(columns, kUnitColumns); }
  std::int64_t tiles() const { return ceil_div(rows, kTileRows); }
  // At least one weight in 128 may be an escape. Of normally distributed weights about one in 10,000 is.
  std::int64_t head_bytes() const { return round_up<std::int64_t>(kTableBytes + 4 * (units() + 1), 64); }
  std::int64_t max_escapes() const { return (head_bytes() - kTableBytes) / 4 - 1; }
  std::int64_t tile_bytes() const { return head_bytes() + units() * kUnitBytes; }
  std::int64_t matrix_bytes() const { return tiles() * tile_bytes(); }

  const std::byte* unit(const std::byte* tile, std::int64_t u) const { return tile + head_bytes() + u * kUnitBytes; }

  // Of a weight within its tile: 128 * unit + 64 * half + byte.
  static std::int64_t place(std::int64_t n, std::int64_t k) {
    const std::int64_t element = n % kTileRows * 2 + k % 2, group = k % kUnitColumns / 2;
    return k / kUnitColumns * kUnitWeights + group / 2 * 64 + element / 8 * 16 + group % 2 * 8 + element % 8;
  }
  static std::int64_t row_of(std::int64_t place) { return place / 16 % 4 * 4 + place % 8 / 2; }
  static std::int64_t column_of(std::int64_t place) { return place / 64 * 4 + place / 8 % 2 * 2 + place % 2; }
};

// An escape is its place * 256 + the high byte; a tile's ascend, and end in this one.
constexpr std::uint32_t kNoEscape = 0xffffffff;

// Row n of a tile as 16 bits a column; what a kernel's reading of units must come to.
void read_lossless_row(const LosslessLayout& layout, const std::byte* tile, std::int64_t n, std::byte* row);

// Whether every tile of a tensor [.., rows, columns] has a list of escapes that kernels can follow: ascending, of weights that
// the tile has, and ended within its head. The other bytes may be anything.
bool lossless_tiles_are_sound(const TensorType& type, const std::byte* stored);

// pack_rows and unpack_rows of pack.h. Tiles are written whole: from a first row of one on, to the last of one or of the matrix.
void pack_lossless_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* rows,
                        std::byte* stored);
void unpack_lossless_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows,
                          const std::byte* stored, std::byte* rows);

}  // namespace cajal
