#pragma once
// Many rows times quantised weights on processors that multiply tiles of signed bytes, by 16 rows and 16 outputs at a time. The class
// is that of quant_blocks.h: tiles give the groups' dot products, which are integers, and vectors add them up in the same order.
//
// Both want their numbers in the first cache, or they take several times as long. So rows lie in *panels*, weights are unpacked by
// *stretches* of groups, which stay there while all panels of a piece of work pass, and what the stretches before gave waits in memory.
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

  // Panel `number` of a product's rounded rows to `panel`.
  void pack(const QuantProduct& product, std::int64_t number, std::byte* panel) const;
};

// The first line of `memory`, which has one more than is needed of it.
constexpr std::size_t kLineBytes = 64;
inline std::byte* on_line(std::byte* memory) {
  return memory + (kLineBytes - reinterpret_cast<std::uintptr_t>(memory) % kLineBytes) % kLineBytes;
}

struct QuantTileWork {
  const QuantBlockTable& table;
  const QuantProduct& product;  // with panels
  const QuantTileRange& range;  // its rows begin with a panel
  std::byte* scratch;           // this thread's own, on a line
};

struct QuantTiles {
  const QuantBlockTable& blocks;  // for fewer rows, and for what is around the products
  int least_rows[2];              // from which on tiles take less time than blocks: groups of 32, 128
  void (*multiply)(const QuantTileWork&);

  bool take(std::int64_t rows, std::int64_t group_size) const { return rows >= least_rows[group_size == 128]; }
};
extern const QuantTiles kQuantTilesAmx;
// The same loops with tiles in plain C++: tests of them do not need the hardware.
extern const QuantTiles kQuantTilesPortable;

// What a thread has for itself.
struct QuantTileScratch {
  static constexpr int kMaxPanels = 16;  // at once: their sums stay in the second cache
  // Columns of a stretch. Unpacked, they take a third of the first cache; where few panels pass, beginning and ending a stretch
  // counts more.
  static constexpr std::int64_t kColumns = 512, kColumnsOfFew = 2048;
  static constexpr int kFewPanels = 3;

  static constexpr std::int64_t kWeightBytes = kQuantTileOutputs * kColumnsOfFew;
  static constexpr std::int64_t kScaleBytes = kWeightBytes / 32 * std::int64_t{sizeof(float)};
  static constexpr std::int64_t kPanelSums = kPanelRows * kQuantSumsStride, kLevelSums = kMaxPanels * kPanelSums;

  static std::size_t bytes(int sum_parts);  // whole lines

  std::byte* base;
  std::byte* weights() const { return base; }
  std::byte* scales() const { return base + kWeightBytes; }
  // [levels, kMaxPanels, kPanelRows, kQuantSumsStride]
  float* sums() const { return reinterpret_cast<float*>(base + kWeightBytes + kScaleBytes); }
};

}  // namespace cajal::cpu
