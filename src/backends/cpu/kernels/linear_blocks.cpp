#include "backends/cpu/kernels/linear_blocks.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "backends/cpu/kernels/fetch_output.h"
#include "backends/cpu/kernels/sum_parts.h"
#include "base/checked.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cajal::cpu {
namespace {

constexpr int kMaxLevels = std::bit_width(static_cast<unsigned>(kMaxSumParts));
// Groups of each tile that are fetched before they are multiplied, and for few rows on a processor that follows streams.
constexpr std::int64_t kGroupsAhead = 32, kGroupsAheadOfFollower = 4;
constexpr int kFewRows = 10;  // which go as fast as memory does

// Rows of x and tiles of the weight that are worked on together.
struct Place {
  std::int64_t row, tile;
  int rows, tiles;
  const std::byte* next;  // the weights needed after these
  // These weights come from memory now, and are fetched shortly before use; or else they are in a cache, and of the next
  // ones the share number `share` of `shares` is fetched.
  bool cold;
  std::int64_t share, shares;
};

struct Multiplier {
  Multiplier(const BlockTable& blocks, const MatrixProduct& product) : table(blocks), p(product) {}

  const BlockTable& table;
  const MatrixProduct& p;
  std::int64_t group_size = table.dtype == DType::bf16 ? 2 : 1;
  std::int64_t element_bytes = static_cast<std::int64_t>(size_of(table.dtype));
  std::int64_t y_element_bytes = p.partial ? std::int64_t{sizeof(float)} : element_bytes;
  std::int64_t groups = ceil_div(p.in_features, group_size);
  std::int64_t tile_stride = p.tile_bytes(table);
  // Of what is read of a tile, the bytes in front and of each group.
  std::int64_t head_bytes = table.lossless() ? LosslessLayout{p.out_features, p.in_features}.head_bytes() : 0;
  std::int64_t group_bytes =
      table.lossless() ? LosslessLayout::kUnitBytes * group_size / LosslessLayout::kUnitColumns : kGroupBytes;
  const bool follower = follows_streams();
  // A tree of sums in the making: level i holds a sum that waits for its sibling.
  alignas(64) float sums[kMaxLevels][kLevelStride];

  void run(const Place& at) {
    if (at.shares > 1) fetch_output(y_of(at), p.y_stride, at.rows, outputs_of(at) * y_element_bytes);
    for (std::int32_t part = 0; part < p.sum_parts; ++part) sum_part(at, part);
    if (p.partial) return store_sums(at);
    table.finish({.sums = sums[0],
                  .bias = p.bias ? p.bias + at.tile * kTileOutputs * element_bytes : nullptr,
                  .y = y_of(at),
                  .y_stride = p.y_stride,
                  .outputs = outputs_of(at),
                  .rows = at.rows});
  }

  void store_sums(const Place& at) const {
    for (int r = 0; r < at.rows; ++r)
      std::memcpy(y_of(at) + r * p.y_stride, sums[0] + r * kSumsStride,
                  static_cast<std::size_t>(outputs_of(at)) * sizeof(float));
  }

  // The first output of the first row, and how many each row has.
  std::byte* y_of(const Place& at) const {
    return p.y + at.row * p.y_stride + at.tile * kTileOutputs * y_element_bytes;
  }
  std::int64_t outputs_of(const Place& at) const {
    return std::min<std::int64_t>(at.tiles * kTileOutputs, p.out_features - at.tile * kTileOutputs);
  }

  void sum_part(const Place& at, std::int32_t part) {
    const auto [siblings, level] = part_of_sum(part);
    const std::int64_t part_groups = groups / p.sum_parts;
    const std::int64_t first = part * part_groups;
    const std::byte* weight = p.weight + at.tile * tile_stride;
    const std::byte* x = p.x + at.row * p.x_stride;
    // An odd number of columns ends in a group of which x has only one half.
    const bool ragged = p.in_features % group_size != 0;
    Block b{.x = x + first * kXGroupBytes,
            .x_stride = p.x_stride,
            .weight = table.lossless() ? weight : weight + first * kGroupBytes,
            .tile_stride = tile_stride,
            .groups = part_groups - ragged,
            .first_group = first,
            .columns = p.in_features,
            .sums = sums[level],
            .siblings = siblings,
            .from_zero = true,
            .fetch_step = group_bytes,
            .turn = 0,
            .fetch = weight,
            .fetch_after_turn = weight,
            .fetch_head = at.next};
    plan_fetching(at, first, part + 1 == p.sum_parts, b);
    table.block[at.rows - 1][at.tiles - 1](b);
    if (ragged) add_half_group(at, x, b);
  }

  void plan_fetching(const Place& at, std::int64_t first_group, bool last_part, Block& b) const {
    if (at.cold) {
      const std::int64_t ahead = follower && at.rows <= kFewRows ? kGroupsAheadOfFollower : kGroupsAhead;
      b.turn = std::max<std::int64_t>(b.groups - ahead, 0);
      const std::byte* weight = p.weight + at.tile * tile_stride + head_bytes + first_group * group_bytes;
      b.fetch = weight + ahead * group_bytes;
      b.fetch_after_turn = last_part ? at.next + head_bytes : weight + b.groups * group_bytes;
      b.read_once = p.read_once && follower;
    } else {
      b.fetch_step = (group_bytes - 1) / at.shares + 1;
      b.fetch_after_turn = at.next + head_bytes + at.share * tile_stride / at.shares + first_group * b.fetch_step;
    }
  }

  void add_half_group(const Place& at, const std::byte* x, Block b) const {
    std::byte padded[kMaxBlockRows * kXGroupBytes] = {};
    const std::int64_t final_group = groups - 1;
    for (int r = 0; r < at.rows; ++r)
      std::memcpy(padded + r * kXGroupBytes, x + r * p.x_stride + final_group * kXGroupBytes,
                  static_cast<std::size_t>(element_bytes));
    b.x = padded;
    b.x_stride = kXGroupBytes;
    b.weight = p.weight + at.tile * tile_stride + (table.lossless() ? 0 : final_group * kGroupBytes);
    b.groups = 1;
    b.first_group = final_group;
    b.turn = 0;
    b.from_zero = false;
    table.block[at.rows - 1][at.tiles - 1](b);
  }
};

}  // namespace

int tiles_at_once(const BlockTable& table, std::int64_t rows) {
  if (table.few && rows <= table.few->max_rows) return tiles_at_once(*table.few, rows);
  if (table.product) return rows <= table.max_rows ? kMaxBlockTiles : kMaxBlockTiles / 2;
  const auto& blocks = table.block[(rows <= table.max_rows ? rows : table.best_rows) - 1];
  int tiles = kMaxBlockTiles;
  while (!blocks[tiles - 1]) --tiles;
  return tiles;
}

void multiply_tiles(const BlockTable& table, const MatrixProduct& product, const TileRange& range) {
  const std::int64_t rows = range.row_end - range.row_begin;
  if (rows <= 0) return;
  CAJAL_CHECK(product.sum_parts >= 1 && product.sum_parts <= kMaxSumParts &&
                  std::has_single_bit(static_cast<unsigned>(product.sum_parts)) &&
                  (product.sum_parts == 1 || product.in_features % (2 * product.sum_parts) == 0),
              "a sum over ", product.in_features, " in ", product.sum_parts, " parts");
  const FlushDenormals flush(table.dtype == DType::bf16);
  if (table.few && !product.x_in_panels && has_block_for(*table.few, rows, product.in_features))
    return multiply_tiles(*table.few, product, range);
  if (table.product) return table.product(product, range);
  CAJAL_CHECK(!product.x_in_panels, "blocks read rows of x, not panels");
  Multiplier multiplier(table, product);
  const int step = rows == 1 && table.one_stream && multiplier.follower ? 1 : tiles_at_once(table, rows);
  // Blocks of nearly equal height, rather than a low one at the end.
  const std::int64_t blocks = rows <= table.max_rows ? 1 : ceil_div<std::int64_t>(rows, table.best_rows);
  for (std::int64_t tile = range.tile_begin; tile < range.tile_end; tile += step) {
    const int tiles = static_cast<int>(std::min<std::int64_t>(step, range.tile_end - tile));
    const std::byte* weight = product.weight + tile * multiplier.tile_stride;
    const std::byte* after = range.weight_after ? range.weight_after : weight;
    const std::byte* next = tile + tiles < range.tile_end ? weight + tiles * multiplier.tile_stride : after;
    const bool first = tile == range.tile_begin && !range.fetched;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::int64_t begin = rows * b / blocks, end = rows * (b + 1) / blocks;
      multiplier.run({.row = range.row_begin + begin,
                      .tile = tile,
                      .rows = static_cast<int>(end - begin),
                      .tiles = tiles,
                      .next = next,
                      .cold = blocks == 1 || (b == 0 && first),
                      .share = b,
                      .shares = blocks});
    }
  }
}

#if defined(__x86_64__)
FlushDenormals::FlushDenormals(bool really) : saved_(_mm_getcsr()) {
  constexpr std::uint32_t kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  if (really) _mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero);
}
FlushDenormals::~FlushDenormals() { _mm_setcsr(saved_); }
#else
FlushDenormals::FlushDenormals(bool) : saved_(0) {}
FlushDenormals::~FlushDenormals() = default;
#endif

}  // namespace cajal::cpu
