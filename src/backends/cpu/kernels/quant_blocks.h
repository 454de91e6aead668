#pragma once
// The inside of the matrix kernels whose weights are quantised, shared by Linear and the experts of MoeExperts. Activations
// are rounded to 8 bits once, in the weight's groups, so that a group's dot product is one of integers, and exact. Groups are
// added up weighed by their own u, and the sum of all is multiplied by the 2^e of the weight's row, which rounds nothing and so
// may be done to any part of it, by any rank (quantized.h). A *block* is up to 6 rows times up to 2 tiles of 32 outputs over a
// stretch of groups; each instruction set has its table of blocks, and everything around them is written once, here.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backends/cpu/kernels/kernel.h"
#include "base/checked.h"
#include "tensor/quantized.h"

namespace cajal::cpu {

constexpr int kQuantTileOutputs = 32;
constexpr int kMaxQuantRows = 6, kMaxQuantTiles = 2;
constexpr int kQuantSumsStride = kMaxQuantTiles * kQuantTileOutputs;  // floats from a row of sums to the next
constexpr int kQuantLevelStride = kMaxQuantRows * kQuantSumsStride;
constexpr int kMaxQuantSumParts = 64;

// What one integer of a group of activations stands for is a power of two, so that its product with the u of weights, which
// every output needs for every group, is an addition to the exponent of an f32, which u is never too small for: multiplications
// are for the integers. Between these magnitudes that gives normal numbers; groups below them round to zeros, and activations
// above count as infinite.
constexpr float kSmallestActivation = 0x1p-64f, kLargestActivation = 0x1p64f;

// A row of activations, rounded: for each group its integers, the exponent of what one stands for as in the bits of an f32
// (k << 23 for 2^k), and the i32 by which the offset of the weights' integers makes their product too large, negated.
// Behind them an i32: whether all are finite. If not, all products with the row are NaN.
struct RoundedRow {
  std::int64_t columns, group_size;
  std::int64_t groups() const { return ceil_div(columns, group_size); }
  std::int64_t group_bytes() const { return group_size + 8; }
  std::int64_t finite_at() const { return groups() * group_bytes(); }
  std::int64_t bytes() const { return round_up<std::int64_t>(finite_at() + 4, 64); }
  bool finite(const std::byte* row) const;
};

struct QuantBlock {
  const std::byte* x[kMaxQuantRows];  // rounded rows, at the first group
  const std::byte* weight;            // of the first tile, at the first group
  std::int64_t tile_stride;           // bytes from a tile to the next
  std::int64_t groups;
  // [levels, kMaxQuantRows, kQuantSumsStride]: what the first `siblings` levels hold is added, the last one's first, and the
  // first one gets the sum.
  float* sums;
  int siblings;
  // What is fetched from memory meanwhile, of every tile at once (addresses are those of the first). Cold: with each group
  // a whole one, from `fetch` on, and behind group `turn` from `fetch_after_turn` on. Else a line a group, in steps.
  bool cold;
  bool read_once;  // what is fetched need not stay in any cache; heeded for one row and one tile
  std::int64_t turn, fetch_step;
  const std::byte *fetch, *fetch_after_turn;
};

struct QuantFinish {
  const float* sums;           // [rows, kQuantSumsStride]
  const std::byte* exponents;  // of the first tile
  std::int64_t tile_stride;    // bytes from a tile to the next
  const std::byte* bias;       // of the first output, or null
  std::byte* y;
  std::int64_t y_stride;  // bytes
  std::int64_t outputs;   // tiles * 32, less in the last tile
  int rows;
  DType dtype;
};

struct QuantBlockTable {
  int best_rows;  // of a block, when there are many rows
  // [4 bits, 8 bits][groups of 32, 128][rows - 1][tiles - 1]; null where the registers do not suffice.
  void (*block[2][2][kMaxQuantRows][kMaxQuantTiles])(const QuantBlock&);
  void (*finish)(const QuantFinish&);
  // One whole group of a row to RoundedRow's form; whether it is finite.
  bool (*round_group)(const std::byte* numbers, DType dtype, std::int64_t size, int offset, std::byte* out);
};
extern const QuantBlockTable kQuantBlocksAvx512Vnni, kQuantBlocksAvx2;

// One matrix product.
struct QuantProduct {
  const std::byte* x;         // rounded rows
  const std::int32_t* x_row;  // which of them each row is, divided by x_share; null: row i is row i
  std::int32_t x_share;
  const std::byte* weight;
  const std::byte* bias;
  std::byte* y;
  std::int64_t y_stride;  // bytes
  std::int64_t rows;
  QuantizedLayout layout;
  std::int32_t sum_parts;
  DType dtype;
  bool partial = false;    // y is f32, and gets the sums as they are
  bool read_once = false;  // as in LinearArgs
  // The rows once more as quant_tiles.h has them, where there are many of them and a kernel for those.
  const std::byte* panels = nullptr;

  const std::byte* x_of(std::int64_t row) const {
    return x + (x_row ? x_row[row] / x_share : row) * x_layout().bytes();
  }
  std::int64_t in_features() const { return layout.columns; }
  std::int64_t out_features() const { return layout.rows; }
  RoundedRow x_layout() const { return {layout.columns, layout.storage.group_size}; }
  // A group belongs to the part of the sum in which it begins.
  std::int64_t first_group(std::int64_t part) const {
    return ceil_div(part * layout.columns, std::int64_t{sum_parts} * layout.storage.group_size);
  }
};

struct QuantTileRange {
  std::int64_t row_begin, row_end, tile_begin, tile_end;
  const std::byte* weight_after;  // as in linear_blocks.h
  bool fetched = false;
};

// On the calling thread.
void multiply_quant_tiles(const QuantBlockTable& table, const QuantProduct& product, const QuantTileRange& range);

// What some rows' sums [rows, kQuantSumsStride] for some tiles, at most kMaxQuantTiles, give: bias, rounding, and NaNs for the rows
// that are not finite.
struct QuantPlace {
  std::int64_t row, tile;
  int rows, tiles;
};
void finish_quant_place(const QuantBlockTable& table, const QuantProduct& product, const QuantPlace& at,
                        const float* sums);

// Tiles that blocks of so many rows work on at once.
int quant_tiles_at_once(const QuantBlockTable& table, std::int64_t rows);

// Rounds row [columns] of `dtype` into `out`; `bits` are those of the weight.
void round_row(const QuantBlockTable& table, const RoundedRow& layout, DType dtype, int bits, const std::byte* row,
               std::byte* out);

// Whether a group whose largest magnitude has these bits (above those of an infinity for a NaN) is neither all zeros nor
// infinite.
inline bool activations_round(std::uint32_t magnitude) {
  return magnitude >= std::bit_cast<std::uint32_t>(kSmallestActivation) &&
         magnitude < std::bit_cast<std::uint32_t>(kLargestActivation);
}
// The k of 2^k, the least for which a magnitude (its bits) rounds to at most 127 of it.
inline std::int32_t activation_exponent(std::uint32_t magnitude) {
  constexpr std::uint32_t kUpFrom127AndAHalf = 0x10000;  // carries from there on
  return static_cast<std::int32_t>((magnitude + kUpFrom127AndAHalf) >> 23) - 127 - 6;
}
// What stands behind a group's integers: 2^k is what one of them stands for.
inline void end_group(std::byte* end, std::int32_t k, std::int32_t correction) {
  const std::int32_t exponent = k << 23;
  std::memcpy(end, &exponent, sizeof exponent);
  std::memcpy(end + 4, &correction, sizeof correction);
}
inline float power_of_two(std::int32_t k) { return std::bit_cast<float>((k + 127) << 23); }

// One by one, as the meaning of round_group; shared with the reference kernels.
bool round_group_ref(const std::byte* numbers, DType dtype, std::int64_t size, int offset, std::byte* out);

// Storage that these kernels read.
bool is_quant_storage(const Storage& storage, DType dtype);

}  // namespace cajal::cpu
