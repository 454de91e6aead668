#pragma once
// The walk of tile_product.h over rows, tiles and columns as a template over the tiles: HardwareTiles of amx.h or PortableTiles. To be
// included *inside* a target region, behind these headers:
//   <algorithm> <cstring> <utility> "backends/cpu/kernels/fetch_output.h" "backends/cpu/kernels/sum_parts.h"
//   "backends/cpu/kernels/tile_product.h"
#include "backends/cpu/kernels/tile_step.h"

namespace cajal::cpu {
namespace {

// Registers: four of sums, two of x and two of weights (32 rows), or one and three (16 rows). The other table finishes the sums.
template <class Tiles, const BlockTable& kFinishing>
class TileProduct {
 public:
  explicit TileProduct(const MatrixProduct& product) : p_(product), layout_{product.in_features, product.sum_parts} {}

  void run(const TileRange& range) {
    const std::int64_t rows = range.row_end - range.row_begin,
                       step = rows <= kTileRows ? kMaxBlockTiles : kMaxBlockTiles / 2;
    const std::int64_t blocks = ceil_div(rows, 2 * kTileRows);
    configure(static_cast<int>(std::min(rows, kTileRows)));
    for (std::int64_t tile = range.tile_begin; tile < range.tile_end; tile += step) {
      const std::int64_t tiles = std::min(step, range.tile_end - tile);
      const std::byte* const weight = p_.weight + tile * tile_stride_;
      const std::byte* const after = range.weight_after ? range.weight_after : weight;
      const std::byte* const next = tile + tiles < range.tile_end ? weight + tiles * tile_stride_ : after;
      const bool first = tile == range.tile_begin && !range.fetched;
      for (std::int64_t b = 0; b < blocks; ++b) {
        const std::int64_t begin = range.row_begin + b * 2 * kTileRows;
        plan_fetching(weight, next, b, blocks, blocks == 1 || (b == 0 && first));
        multiply(begin, std::min(begin + 2 * kTileRows, range.row_end), range, tile, static_cast<int>(tiles));
      }
    }
  }

 private:
  // Rows of a register of x. A second register that would have fewer than 16 begins so much earlier: what it computes again has
  // the same bits. (In panels there are rows to read in any case.)
  struct RowTile {
    std::int64_t row;
    int rows;
    const std::byte* x;
  };

  void configure(int rows) {
    x_rows_ = rows;
    const int sums_and_x[8] = {rows, rows, rows, rows, rows, 16, 16, 16};
    const int all[8] = {16, 16, 16, 16, 16, 16, 16, 16};
    constexpr int kRowBytes[8] = {64, 64, 64, 64, 64, 64, 64, 64};
    tiles_.configure(rows < kTileRows ? sums_and_x : all, kRowBytes);
  }

  RowTile row_tile(std::int64_t begin, std::int64_t end, const TileRange& range) const {
    std::int64_t row = begin;
    if (!p_.x_in_panels && end - begin < kTileRows) row = std::max(range.row_begin, end - kTileRows);
    const std::byte* const x =
        p_.x_in_panels ? p_.x + row / kTileRows * layout_.panel_bytes() : p_.x + row * p_.x_stride;
    return {row, static_cast<int>(std::min(end - row, kTileRows)), x};
  }

  void multiply(std::int64_t begin, std::int64_t end, const TileRange& range, std::int64_t tile, int tiles) {
    const bool both = end - begin > kTileRows;
    const RowTile low = row_tile(begin, std::min(begin + kTileRows, end), range);
    const RowTile high = both ? row_tile(begin + kTileRows, end, range) : low;
    fetch_output(y_of(low.row, tile), p_.y_stride, static_cast<int>(high.row - low.row) + high.rows,
                 outputs_of(tile, tiles) * element_bytes_);
    for (std::int32_t part = 0; part < p_.sum_parts; ++part)
      sum_part(low.x, both ? high.x : nullptr, tile, tiles, part);
    finish(low, sums_, tile, tiles);
    if (both) finish(high, sums_ + kTileRows * kSumsStride, tile, tiles);
  }

  void sum_part(const std::byte* low, const std::byte* high, std::int64_t tile, int tiles, std::int32_t part) {
    const std::byte* const weight = p_.weight + tile * tile_stride_ + part * part_bytes_;
    if (high) return tiles == 1 ? sum_part<2, 1>({low, high}, weight, part) : sum_part<2, 2>({low, high}, weight, part);
    switch (tiles) {
      case 1: return sum_part<1, 1>({low}, weight, part);
      case 2: return sum_part<1, 2>({low}, weight, part);
      case 3: return sum_part<1, 3>({low}, weight, part);
      default: return sum_part<1, 4>({low}, weight, part);
    }
  }

  // The product of a part, and of what it completes: to sums_ at last, else to its level of the tree.
  template <int kX, int kOutputs>
  void sum_part(const std::byte* const (&x)[kX], const std::byte* weight, std::int32_t part) {
    unroll<kX * kOutputs>([&]<int kSum>() { tiles_.template zero<kSum>(); });
    const std::int64_t blocks = layout_.part_blocks(), whole = layout_.part_columns() / kTileColumns;
    const std::int64_t x_step = p_.x_in_panels ? kTileBytes : kTileRowBytes;
    const std::int64_t x_stride = p_.x_in_panels ? kTileRowBytes : p_.x_stride;
    const std::int64_t at = part * (p_.x_in_panels ? blocks * kTileBytes : layout_.part_columns() * 2);
    const std::byte* rows[kX];
    for (int i = 0; i < kX; ++i) rows[i] = x[i] + at;
    for (std::int64_t k = 0; k < whole; ++k) {
      fetch<kOutputs>();
      multiply_step<kX, kOutputs>(tiles_, rows, x_stride, {weight + k * kTileBytes, kTileRowBytes}, tile_stride_);
      for (int i = 0; i < kX; ++i) rows[i] += x_step;
    }
    if (whole < blocks) {
      copy_end<kX, kOutputs>(rows, weight + whole * kTileBytes);
      for (int i = 0; i < kX; ++i) rows[i] = end_of_x_[i];
      multiply_step<kX, kOutputs>(tiles_, rows, kTileRowBytes, {end_of_weight_, kTileRowBytes}, kTileBytes);
    }
    const auto [siblings, level] = part_of_sum(part);
    float* const sum = part + 1 == p_.sum_parts ? sums_ : levels_[level];
    float* const fresh = siblings == 0 ? sum : sums_;
    unroll<kX * kOutputs>([&]<int kSum>() {
      float* const to = fresh + kSum / kOutputs * kTileRows * kSumsStride + kSum % kOutputs * kTileOutputs;
      tiles_.template store<kSum>(to, kSumsStride * std::int64_t{sizeof(float)});
    });
    if (siblings > 0) add_siblings<kX * kTileRows, kOutputs>(level, siblings, sum);
  }

  using Vector [[gnu::vector_size(64), gnu::may_alias]] = float;

  // sum = the fresh one and those of the levels in front of it, the last one's first.
  template <int kRows, int kOutputs>
  void add_siblings(int level, int siblings, float* sum) const {
    for (int r = 0; r < kRows; ++r)
      unroll<kOutputs>([&]<int kOutput>() {
        const int at = r * kSumsStride + kOutput * kTileOutputs;
        Vector of = *reinterpret_cast<const Vector*>(sums_ + at);
        for (int l = level + siblings - 1; l >= level; --l) of = *reinterpret_cast<const Vector*>(levels_[l] + at) + of;
        *reinterpret_cast<Vector*>(sum + at) = of;
      });
  }

  // The columns behind the last whole block of a part, others as zeros.
  template <int kX, int kOutputs>
  [[gnu::noinline]] void copy_end(const std::byte* const (&x)[kX], const std::byte* weight) {
    const std::int64_t columns = layout_.part_columns() % kTileColumns;
    const std::int64_t x_stride = p_.x_in_panels ? kTileRowBytes : p_.x_stride;
    std::memset(end_of_x_, 0, sizeof end_of_x_);
    std::memset(end_of_weight_, 0, sizeof end_of_weight_);
    for (int i = 0; i < kX; ++i)
      for (std::int64_t r = 0; r < x_rows_; ++r)
        std::memcpy(end_of_x_[i] + r * kTileRowBytes, x[i] + r * x_stride, static_cast<std::size_t>(columns * 2));
    for (int t = 0; t < kOutputs; ++t)
      std::memcpy(end_of_weight_ + t * kTileBytes, weight + t * tile_stride_,
                  static_cast<std::size_t>(ceil_div<std::int64_t>(columns, 2) * kGroupBytes));
  }

  // Weights that come from memory now are fetched shortly before use; or else they are in a cache, and of the next ones share
  // `share` of `shares` is fetched.
  void plan_fetching(const std::byte* weight, const std::byte* next, std::int64_t share, std::int64_t shares,
                     bool cold) {
    constexpr std::int64_t kBytesAhead = 4096;
    const std::int64_t bytes = cold ? tile_stride_ : tile_stride_ / shares + 1;
    fetch_ = cold ? weight + std::min(kBytesAhead, tile_stride_) : next + share * tile_stride_ / shares;
    fetch_end_ = cold ? weight + tile_stride_ : fetch_ + bytes;
    fetch_after_ = next;
    const std::int64_t blocks = std::max<std::int64_t>(layout_.part_blocks() * p_.sum_parts, 1);
    fetch_lines_ = static_cast<int>(std::clamp<std::int64_t>(ceil_div(bytes, 64 * blocks), 1, kTileRows));
  }
  template <int kOutputs>
  [[gnu::always_inline]] void fetch() {
    for (int i = 0; i < fetch_lines_; ++i, fetch_ += 64) {
      unroll<kOutputs>([&]<int kOutput>() { __builtin_prefetch(fetch_ + kOutput * tile_stride_); });
    }
    if (fetch_ >= fetch_end_) fetch_ = fetch_after_, fetch_end_ = fetch_after_ + tile_stride_;
  }

  void finish(const RowTile& rows, const float* sums, std::int64_t tile, int tiles) const {
    const std::int64_t outputs = outputs_of(tile, tiles);
    std::byte* const y = y_of(rows.row, tile);
    if (!p_.partial)
      return kFinishing.finish({.sums = sums,
                                .bias = p_.bias ? p_.bias + tile * kTileOutputs * element_bytes_ : nullptr,
                                .y = y,
                                .y_stride = p_.y_stride,
                                .outputs = outputs,
                                .rows = rows.rows});
    for (int r = 0; r < rows.rows; ++r)
      std::memcpy(y + r * p_.y_stride, sums + r * kSumsStride, static_cast<std::size_t>(outputs) * sizeof(float));
  }

  std::byte* y_of(std::int64_t row, std::int64_t tile) const {
    return p_.y + row * p_.y_stride + tile * kTileOutputs * element_bytes_;
  }
  std::int64_t outputs_of(std::int64_t tile, int tiles) const {
    return std::min<std::int64_t>(tiles * kTileOutputs, p_.out_features - tile * kTileOutputs);
  }

  const MatrixProduct& p_;
  const std::int64_t element_bytes_ = p_.partial ? std::int64_t{sizeof(float)} : std::int64_t{2};
  const PanelLayout layout_;
  const std::int64_t tile_stride_ = ceil_div<std::int64_t>(p_.in_features, 2) * kGroupBytes;
  const std::int64_t part_bytes_ = layout_.part_columns() / 2 * kGroupBytes;
  std::int64_t x_rows_ = kTileRows;
  const std::byte *fetch_ = nullptr, *fetch_end_ = nullptr, *fetch_after_ = nullptr;
  int fetch_lines_ = 1;
  Tiles tiles_;
  alignas(64) float sums_[2 * kTileRows * kSumsStride];
  alignas(64) float levels_[kMaxTileLevels][2 * kTileRows * kSumsStride];
  alignas(64) std::byte end_of_x_[2][kTileBytes], end_of_weight_[kMaxBlockTiles * kTileBytes];
};

template <class Tiles, const BlockTable& kFinishing>
void multiply_by_tiles(const MatrixProduct& product, const TileRange& range) {
  TileProduct<Tiles, kFinishing>(product).run(range);
}

template <class Tiles, const BlockTable& kFinishing>
constexpr BlockTable make_tiles_table() {
  BlockTable table{};
  table.dtype = DType::bf16;
  table.best_rows = 2 * kTileRows;
  table.max_rows = kTileRows;
  table.product = multiply_by_tiles<Tiles, kFinishing>;
  return table;
}

}  // namespace
}  // namespace cajal::cpu
