#pragma once
// Many rows times quantised weights on processors that multiply tiles of signed bytes, by 16 rows and 16 outputs at a time. The class
// is that of quant_blocks.h: tiles give the groups' dot products, which are integers, and vectors add them up in the same order.
//
// Such a tile is ready sooner than vectors have weighed and added it, so everything here is arranged for those to find their
// numbers near: rows lie in *panels*, weights are unpacked by *stretches* of groups, which stay in the first cache while all rows of a
// piece of work pass, and the sums of what the stretches before gave wait in memory.
#include "backends/cpu/kernels/quant_blocks.h"

namespace cajal::cpu {

constexpr int kPanelRows = 16;

// Rounded rows as tiles are loaded, in panels of 16; rows that the last one lacks are zeros. A panel has its rows group by group:
// integers [group_size / piece][16 rows][piece], where a piece is what one tile holds, 64 or the whole group, and then
// exponents i32[16].
struct QuantPanels {
  std::int64_t columns, group_size;
  std::int64_t piece() const { return group_size < 64 ? group_size : 64; }
  std::int64_t exponents_at() const { return kPanelRows * group_size; }
  std::int64_t group_bytes() const { return exponents_at() + kPanelRows * std::int64_t{sizeof(std::int32_t)}; }
  std::int64_t panel_bytes() const { return ceil_div(columns, group_size) * group_bytes(); }

  // One panel of rounded rows, `count` of them.
  void pack(const std::byte* const* rows, std::int64_t count, std::byte* panel) const;
};

struct QuantTileWork {
  const QuantBlockTable& table;
  const QuantProduct& product;  // with panels
  const QuantTileRange& range;  // rows from the beginning of a panel on
  std::byte* scratch;           // this thread's own, on a line
};

struct QuantTiles {
  const QuantBlockTable& few_rows;  // for up to best_rows of them, and for what is around the products
  void (*multiply)(const QuantTileWork&);
};
extern const QuantTiles kQuantTilesAmx;
// The same loops with tiles in plain C++: tests of them do not need the hardware.
extern const QuantTiles kQuantTilesPortable;

// Bytes that a thread needs for products in so many parts; whole lines.
std::size_t quant_tile_scratch(int sum_parts);

// What of it is what.
struct QuantTileScratch {
  static constexpr int kMaxPanels = 16;                 // at once: their sums stay in the second cache
  static constexpr std::int64_t kStretchColumns = 512;  // whose integers stay in the first, beside what passes
  static constexpr int kTiles = 1;                      // at once

  static constexpr std::int64_t kWeightBytes = kTiles * kQuantTileOutputs * kStretchColumns;
  static constexpr std::int64_t kScaleBytes = kWeightBytes / 32 * std::int64_t{sizeof(float)};
  static constexpr std::int64_t kPanelSums = kPanelRows * kQuantSumsStride, kLevelSums = kMaxPanels * kPanelSums;

  std::byte* base;
  std::byte* weights() const { return base; }
  std::byte* scales() const { return base + kWeightBytes; }
  // [levels, kMaxPanels, kPanelRows, kQuantSumsStride]
  float* sums() const { return reinterpret_cast<float*>(base + kWeightBytes + kScaleBytes); }
};

}  // namespace cajal::cpu
