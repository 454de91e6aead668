#pragma once
// The inside of the fast matrix kernels, shared by Linear and the experts of MoeExperts. A *block* is up to 12 rows of x
// times up to 4 tiles of 16 outputs, summed over a stretch of k in registers; each instruction set has its table of
// blocks, and everything around them (parts of the sum, tails, the walk over rows and tiles) is written once, here.
//
// The weight is packed in tiles of 16 rows by 2 (bf16) or 1 (f32) columns: a *group* is what one step along k takes, 64
// bytes of a tile and 4 bytes of a row of x.
#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels/kernel.h"
#include "base/checked.h"
#include "base/thread_pool.h"
#include "tensor/lossless.h"

namespace cajal::cpu {

constexpr int kTileOutputs = 16;
constexpr std::int64_t kGroupBytes = 64, kXGroupBytes = 4;
constexpr int kMaxBlockRows = 12, kMaxBlockTiles = 4;
constexpr int kSumsStride = kMaxBlockTiles * kTileOutputs;  // floats from a row of sums to the next
constexpr int kLevelStride = kMaxBlockRows * kSumsStride;
constexpr int kMaxSumParts = 64;

struct Block {
  const std::byte* x;
  std::int64_t x_stride;  // bytes from a row to the next
  // Of the first tile: its first group of these. Where tiles are lossless its head, and `first_group` says which.
  const std::byte* weight;
  std::int64_t tile_stride;  // bytes from a tile to the next
  std::int64_t groups, first_group;
  std::int64_t columns;  // of the matrix
  // [levels, kMaxBlockRows, kSumsStride]: what the first `siblings` levels hold is added, the last one's first, and the first
  // one gets the sum.
  float* sums;
  int siblings;
  bool from_zero;  // else the sum of the first level is continued
  // What is fetched from memory meanwhile, of every tile at once (addresses are those of the first): `fetch_step` bytes
  // with each group, from `fetch` on, and behind group `turn` from `fetch_after_turn` on.
  std::int64_t fetch_step, turn;
  const std::byte *fetch, *fetch_after_turn;
  const std::byte* fetch_head;  // of a lossless tile; any address otherwise
  bool read_once = false;       // what is fetched: it need not stay in any cache; heeded for one row
};

// What becomes of finished sums.
struct Finish {
  const float* sums;      // [rows, kSumsStride]
  const std::byte* bias;  // of the first output, or null
  std::byte* y;
  std::int64_t y_stride;  // bytes
  std::int64_t outputs;   // tiles * 16, less in the last tile
  int rows;
};

struct MatrixProduct;
struct TileRange;

struct BlockTable {
  DType dtype;
  int best_rows;  // of a block, when there are many rows
  int max_rows;   // of any block: up to here the weights are read once
  // [rows - 1][tiles - 1]; null where the registers do not suffice. Every number of rows up to max_rows has one tile.
  void (*block[kMaxBlockRows][kMaxBlockTiles])(const Block&);
  void (*finish)(const Finish&);
  // Not null: these blocks read tiles of Lossless storage, and those the same tiles once they are unpacked.
  const BlockTable* unpacked;
  // One row is multiplied by one tile at least as fast as memory gives that to a thread: where the processor follows streams
  // one tile after the other, a single stream, is then read faster than several side by side.
  bool one_stream = false;
  // Not null: there are no blocks, this is all of multiply_tiles (tile_product.h).
  void (*product)(const MatrixProduct&, const TileRange&) = nullptr;
  const BlockTable* few = nullptr;  // then: the same bits for fewer rows than are worth a tile
  bool even_columns = false;        // the blocks cannot end in half a group

  bool lossless() const { return unpacked != nullptr; }
};

extern const BlockTable kBlocksBf16Sse2, kBlocksF32Sse2;  // any x86-64
extern const BlockTable kBlocksBf16Avx2, kBlocksF32Avx2;
extern const BlockTable kBlocksBf16Avx512, kBlocksF32Avx512, kBlocksBf16Avx512Bf16;
extern const BlockTable kBlocksLosslessAvx512Bf16;

// A lossless tile as it would be packed, 16 x 2; the inside of kBlocksLosslessAvx512Bf16.
void unpack_lossless_tile_avx512(const LosslessLayout& layout, const std::byte* tile, std::byte* packed);

// One matrix product; the weight packed in tiles.
struct MatrixProduct {
  const std::byte* x;
  std::int64_t x_stride;  // bytes
  const std::byte* weight;
  const std::byte* bias;
  std::byte* y;
  std::int64_t y_stride;  // bytes
  std::int64_t rows, in_features, out_features;
  std::int32_t sum_parts;
  bool partial = false;      // y is f32, and gets the sums as they are
  bool read_once = false;    // as in LinearArgs
  bool x_in_panels = false;  // x is as PanelLayout says, and ranges of rows begin with a panel

  std::int64_t tiles() const { return ceil_div<std::int64_t>(out_features, kTileOutputs); }
  std::int64_t tile_bytes(const BlockTable& table) const {
    if (table.lossless()) return LosslessLayout{out_features, in_features}.tile_bytes();
    return ceil_div<std::int64_t>(in_features, table.dtype == DType::bf16 ? 2 : 1) * kGroupBytes;
  }
};

// Whether the blocks of a table can multiply all rows at once.
inline bool has_block_for(const BlockTable& table, std::int64_t rows, std::int64_t in_features) {
  return rows <= table.max_rows && !(table.even_columns && in_features % 2 != 0);
}

struct TileRange {
  std::int64_t row_begin, row_end, tile_begin, tile_end;
  // The tiles that this thread probably multiplies after these, of the same length; fetched meanwhile. Null: unknown.
  const std::byte* weight_after;
  bool fetched = false;  // the first tiles probably are in a cache: they were weight_after
};

// On the calling thread.
void multiply_tiles(const BlockTable& table, const MatrixProduct& product, const TileRange& range);

// Tiles that blocks of so many rows work on at once.
int tiles_at_once(const BlockTable& table, std::int64_t rows);

// vdpbf16ps takes denormal operands as zeros and flushes denormal results, whatever the control register says. While one
// of these lives, the other multiply-adds of its thread do the same.
class FlushDenormals {
 public:
  explicit FlushDenormals(bool really);
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  std::uint32_t saved_;
};

}  // namespace cajal::cpu
