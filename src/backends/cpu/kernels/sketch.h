#pragma once
// A sketch of a matrix: its weights in 4 bits and then in 6, or in 6 at once, and for each row how far they are off. Reading it
// instead of the matrix gives bounds that exact products cannot exceed: |w x - s x| <= |w - s| |x| (Cauchy and Schwarz), where w
// is a row of the matrix and s the same row of the sketch.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/checked.h"

namespace cajal::cpu {

// Integers v of 6 bits stand for (v - 31.5) * step. A step is a row's scale times that of a group of 32 columns, 1 to 255.
//
// The *coarse* layer, which is read from end to end, has v / 4, or all of v, in tiles of 16 rows. A tile is cut into units of
// 128 columns; a unit is its scales, [4 groups][16 rows], and then the groups: the lowest four bits of the integers, [4][16][4]
// bytes of which each holds column 8 j + b in its low half and column 8 j + 4 + b in the high one, and, where the layer has all
// of v, two planes of further bits, [8][16][4]: of column 4 s + b, in the order of bits in memory.
//
// The *fine* layer has v % 4 row by row, for those that the coarse one leaves in doubt: [columns / 64][16] bytes, of which byte j
// holds columns j, 16 + j, 32 + j and 48 + j of 64 in ascending bits, then the scales once more, [columns / 32],
// and two f32: the row's scale, and by how much the norm of its error is smaller than that of the coarse layer.
struct SketchLayout {
  static constexpr std::int64_t kTileRows = 16, kGroupColumns = 32, kUnitGroups = 4;
  static constexpr std::int64_t kUnitColumns = kGroupColumns * kUnitGroups;
  static constexpr std::int64_t kMostColumnsOfTwoLayers = 3072;
  static constexpr std::int64_t kScalesBytes = kUnitGroups * kTileRows, kLowBytes = 256, kPlaneBytes = 64;

  std::int64_t rows, columns;
  bool two_layers;

  int planes() const { return two_layers ? 0 : 2; }
  std::int64_t tiles() const { return ceil_div(rows, kTileRows); }
  std::int64_t units() const { return ceil_div(columns, kUnitColumns); }
  std::int64_t groups() const { return units() * kUnitGroups; }
  std::int64_t padded_columns() const { return units() * kUnitColumns; }
  std::int64_t group_bytes() const { return kLowBytes + planes() * kPlaneBytes; }
  std::int64_t unit_bytes() const { return kScalesBytes + kUnitGroups * group_bytes(); }
  std::int64_t tile_bytes() const { return units() * unit_bytes(); }
  std::int64_t coarse_bytes() const { return tiles() * tile_bytes(); }
  std::int64_t fine_scales_at() const { return padded_columns() / 4; }
  std::int64_t fine_end_at() const { return fine_scales_at() + groups(); }
  std::int64_t fine_row_bytes() const { return two_layers ? round_up<std::int64_t>(fine_end_at() + 8, 64) : 0; }
  std::int64_t bytes() const { return coarse_bytes() + tiles() * kTileRows * fine_row_bytes(); }
};

// Of the rows of one tile. Norms are no smaller than the real ones; a row that does not exist has -infinity as its error, one of
// numbers that nothing can be said of has infinity.
struct SketchRows {
  float scale[SketchLayout::kTileRows];
  float error[SketchLayout::kTileRows];  // |w - s|, where s is what the coarse layer says
  float norm[SketchLayout::kTileRows];   // |w| + |w - s|
};

// A row of activations, rounded to integers by groups of 32.
struct SketchInput {
  std::vector<std::int8_t> integers;  // [padded_columns]
  // By group: with sums of integers times integers of a layer, sums * factor - offset is that layer's part of the product, for
  // scales of 1.
  std::vector<float> coarse_factors, coarse_offsets, fine_factors, fine_offsets;
  float norm = 0;   // of the row as the exact product takes it
  float noise = 0;  // times a row's norm: what rounding the activations, and adding in f32 anywhere, can come to

  explicit SketchInput(const SketchLayout& layout);
  // Of group g, whose integers are there: each stands for itself times `unit`, and they add up to `sum`.
  void set_group(const SketchLayout& layout, std::int64_t g, float unit, std::int32_t sum);
};

constexpr int kMostSketchInputs = 4;

// Whether this processor has what the functions below need.
bool can_sketch(std::uint32_t isa);

// Makes tile `tile` of rows[16, padded_columns]; rows of the tile behind the last one of the matrix are not read.
void sketch_tile(const SketchLayout& layout, std::int64_t tile, const float* rows, std::byte* sketch,
                 SketchRows& of_tile);

// What no exact product of an input exceeds.
struct SketchBounds {
  float* of_tiles;  // [tiles]: with any row of it
  float* of_rows;   // [tiles * 16]
};

// By the coarse layer, for each input, of tiles [begin, end).
void sketch_bounds(const SketchLayout& layout, const std::byte* sketch, const SketchRows* of_tiles,
                   const SketchInput* inputs, int num_inputs, std::int64_t begin, std::int64_t end,
                   const SketchBounds* bounds);
// By both layers, for one input: tiles of [begin, end) whose bounds are not below the threshold get ones of rows of which that
// is still true, -infinity if there are none. Only where there are two layers.
void refine_bounds(const SketchLayout& layout, const std::byte* sketch, const SketchInput& input, std::int64_t begin,
                   std::int64_t end, float threshold, const SketchBounds& bounds);

}  // namespace cajal::cpu
