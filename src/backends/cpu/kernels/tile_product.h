#pragma once
// Products of bf16 matrices by tiles, for processors that multiply whole ones (AMX): 16 or 32 rows of x at a time with up to four
// tiles of 16 outputs. What a tile instruction computes is a numerics class of its own, kTilesBf16Class.
#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels/linear_blocks.h"
#include "base/checked.h"

namespace cajal::cpu {

// Columns are taken in blocks of 32 from the beginning of each part of the sum, missing ones as zeros. In a block the products of
// the even columns and those of the odd ones are two sums from zero, of fused multiply-adds in ascending order; both are added,
// and then that to the sum. Denormals count as zeros.
constexpr const char* kTilesBf16Class =
    "bf16 in blocks of 32 columns, even ones and odd ones by fma f32, flush denormals";

constexpr int kMaxTileLevels = 6;  // of the sums of parts that wait for their siblings: at most 64 parts
constexpr std::int64_t kTileRows = 16, kTileColumns = 32, kTileBytes = 1024, kTileRowBytes = 64;

// x as the tile instructions read it: rows in panels of 16, the last one padded; in a panel, for each part of the sum and each block
// of 32 columns, [16][32] numbers. What a row has no columns for is zero.
struct PanelLayout {
  std::int64_t columns;
  std::int32_t sum_parts;

  std::int64_t part_columns() const { return columns / sum_parts; }
  std::int64_t part_blocks() const { return ceil_div(part_columns(), kTileColumns); }
  std::int64_t panel_bytes() const { return sum_parts * part_blocks() * kTileBytes; }
  std::int64_t bytes(std::int64_t rows) const { return ceil_div(rows, kTileRows) * panel_bytes(); }
};

// Row `row` of x, [columns] bf16, to its place in the panels.
void pack_panel_row(const PanelLayout& layout, std::int64_t row, const std::byte* x, std::byte* panels);

// Tables without blocks, which multiply by tiles: with the instructions, and one by one for machines without them.
extern const BlockTable kBlocksBf16Amx;
extern const BlockTable kBlocksBf16PortableTiles;
// Blocks of AVX-512 in the order of tiles, for few rows; those over lossless tiles are multiplied by AMX once they are unpacked.
extern const BlockTable kBlocksBf16TileOrder, kBlocksLosslessTileOrder;

}  // namespace cajal::cpu
