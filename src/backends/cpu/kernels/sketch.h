#pragma once
// A sketch of a matrix: its weights in 3 bits and then in 5, rounded at places that a dither moves. Reading it instead of the
// matrix gives bounds that exact products do not exceed.
//
// The dither is a number u of [-1/2, 1/2) for each column, drawn once from a fixed seed. A weight w is rounded to the nearest of
// the numbers (i + u) step, for integers i, so that whatever w is its error is uniform over [-step/2, step/2), and errors of
// different columns are independent (subtractive dither). By Hoeffding's inequality for such sums, and since exp(a e) has a mean
// of at most exp(a^2 step^2 / 24), the errors' product with activations x, which know nothing of the dither, exceeds
//
//   sqrt(2 ln(1/p) / 12) sqrt(sum over columns (step x)^2)
//
// with a probability of at most p, which is 2^-64 here. That is for one row; a choice is wrong only if it happens to a row that
// would have been chosen. Cauchy and Schwarz, whose bound holds always, would need sqrt(columns / (24 ln(1/p))) times as much.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/checked.h"

namespace cajal::cpu {

// Integers v of 5 bits stand for (v - 15.5 + 4 u) * step. A step is a row's scale times that of a group of 64 columns, 1 to 255.
//
// The *coarse* layer, which is read from end to end, has v / 4 in tiles of 16 rows. A tile begins with the rows' scales and
// norms, bf16 [2][16]. The rest is cut into units of 256 columns: their scales, [4 groups][16 rows], and two blocks of 192 bytes
// for each of the groups, in order. A block has 32 columns, eight steps of four: of bytes [3][16 rows][4 columns] byte i has
// step i in bits 0 to 2 and step 3 + i in bits 3 to 5; steps 6 and 7 have their lowest two bits in bits 6 and 7 of bytes 0 and
// 1, and their highest in bit 6 and bit 7 of byte 2.
//
// The *fine* layer has v % 4 row by row, for those that the coarse one leaves in doubt: [groups][16] bytes, of which byte j
// holds columns j, 16 + j, 32 + j and 48 + j in ascending bits, then the groups' scales once more, and the row's, a f32.
struct SketchLayout {
  static constexpr std::int64_t kTileRows = 16, kGroupColumns = 64, kUnitGroups = 4;
  static constexpr std::int64_t kUnitColumns = kGroupColumns * kUnitGroups;
  static constexpr std::int64_t kRowsBytes = 2 * kTileRows * 2, kScalesBytes = kUnitGroups * kTileRows;
  static constexpr std::int64_t kBlockBytes = 192, kGroupBytes = 2 * kBlockBytes;
  static constexpr std::int64_t kUnitBytes = kScalesBytes + kUnitGroups * kGroupBytes;

  std::int64_t rows, columns;

  std::int64_t tiles() const { return ceil_div(rows, kTileRows); }
  std::int64_t units() const { return ceil_div(columns, kUnitColumns); }
  std::int64_t groups() const { return units() * kUnitGroups; }
  std::int64_t padded_columns() const { return units() * kUnitColumns; }
  std::int64_t tile_bytes() const { return kRowsBytes + units() * kUnitBytes; }
  std::int64_t coarse_bytes() const { return tiles() * tile_bytes(); }
  std::int64_t fine_scales_at() const { return padded_columns() / 4; }
  std::int64_t fine_end_at() const { return fine_scales_at() + groups(); }
  std::int64_t fine_row_bytes() const { return round_up<std::int64_t>(fine_end_at() + 4, 64); }
  std::int64_t bytes() const { return coarse_bytes() + tiles() * kTileRows * fine_row_bytes(); }
};

// The dither: [padded_columns].
std::vector<float> sketch_dither(const SketchLayout& layout);

// A row of activations, rounded to integers by groups of 64.
struct SketchInput {
  std::vector<std::int8_t> integers;  // [padded_columns]
  // By group: with sums of integers times integers of a layer, sums * factor - offset is that layer's part of the product, for
  // scales of 1.
  std::vector<float> coarse_factors, coarse_offsets, fine_factors, fine_offsets;
  std::vector<float> squares;  // by group: of what its integers stand for, added up
  // Times a row's norm: what rounding the activations, and adding in f32 anywhere, can come to. At least a 100,000th of the
  // activations' norm, and above 0.
  float noise = 0;

  explicit SketchInput(const SketchLayout& layout);
  // Of group g: `exact` has its columns but those of padding, whose integers count `unit` each. Returns the sum of the squares
  // of what rounding to them leaves.
  double set_group(std::int64_t g, std::span<const float> exact, float unit);

 private:
  std::vector<float> dither_;
};

constexpr int kMostSketchInputs = 4;

// Whether this processor has what the functions below need.
bool can_sketch(std::uint32_t isa);

// Makes tile `tile` of rows[16, padded_columns]; rows of the tile behind the last one of the matrix are not read.
void sketch_tile(const SketchLayout& layout, std::int64_t tile, const float* rows, const float* dither,
                 std::byte* sketch);

// What no exact product of an input exceeds: infinity for rows with weights that are no numbers or too large, -infinity for rows
// behind the last one.
struct SketchBounds {
  float* of_tiles;  // [tiles]: with any row of it
  float* of_rows;   // [tiles * 16]
};

// By the coarse layer, for each input, of tiles [begin, end).
void sketch_bounds(const SketchLayout& layout, const std::byte* sketch, const SketchInput* inputs, int num_inputs,
                   std::int64_t begin, std::int64_t end, const SketchBounds* bounds);
// By both layers, for one input: tiles of [begin, end) whose bounds are not below the threshold get ones of rows of which that
// is still true, -infinity if there are none.
void refine_bounds(const SketchLayout& layout, const std::byte* sketch, const SketchInput& input, std::int64_t begin,
                   std::int64_t end, float threshold, const SketchBounds& bounds);

}  // namespace cajal::cpu
