#include "backends/cpu/kernels/linear_lossless.h"

#include <algorithm>
#include <bit>

#include "tensor/pack.h"

namespace cajal::cpu {
namespace {

std::int64_t packed_tile_bytes(std::int64_t in_features) {
  return ceil_div<std::int64_t>(in_features, 2) * kGroupBytes;
}

// Tiles from `tile` on, unpacked at `memory`, as a matrix of their own.
MatrixProduct unpacked(const BlockTable& lossless, const MatrixProduct& p, std::int64_t tile, std::int64_t tiles,
                       std::byte* memory) {
  const std::int64_t output = tile * kTileOutputs, y_bytes = p.partial ? sizeof(float) : sizeof(std::uint16_t);
  for (std::int64_t i = 0; i < tiles; ++i)
    unpack_lossless_tile_avx512({p.out_features, p.in_features}, p.weight + (tile + i) * p.tile_bytes(lossless),
                                memory + i * packed_tile_bytes(p.in_features));
  MatrixProduct part = p;
  part.weight = memory;
  part.bias = p.bias ? p.bias + output * static_cast<std::int64_t>(sizeof(std::uint16_t)) : nullptr;
  part.y = p.y + output * y_bytes;
  part.out_features = std::min(tiles * kTileOutputs, p.out_features - output);
  return part;
}

}  // namespace

bool is_lossless(const LinearShape& s) { return std::holds_alternative<Lossless>(s.storage); }

std::int64_t unpacked_bytes(std::int64_t in_features) { return kMaxBlockTiles * packed_tile_bytes(in_features); }

void multiply_unpacked(const BlockTable& table, const MatrixProduct& p, const TileRange& range, std::byte* memory) {
  const std::int64_t step = tiles_at_once(*table.unpacked, range.row_end - range.row_begin);
  for (std::int64_t tile = range.tile_begin; tile < range.tile_end; tile += step) {
    const std::int64_t tiles = std::min(step, range.tile_end - tile), next = tile + tiles;
    const MatrixProduct part = unpacked(table, p, tile, tiles, memory);
    multiply_tiles(*table.unpacked, part,
                   {.row_begin = range.row_begin,
                    .row_end = range.row_end,
                    .tile_begin = 0,
                    .tile_end = tiles,
                    .weight_after = next < range.tile_end ? p.weight + next * p.tile_bytes(table) : range.weight_after,
                    .fetched = true});
  }
}

void run_lossless_tiles(const BlockTable& table, const LinearArgs& a, ThreadPool& pool) {
  const MatrixProduct product = linear_product(a);
  const std::int64_t step = tiles_at_once(*table.unpacked, a.rows), units = ceil_div(product.tiles(), step);
  // Rows are cut only as far as it takes to give every thread several pieces: each chunk unpacks the tiles again.
  const std::int64_t chunks = std::clamp<std::int64_t>(ceil_div<std::int64_t>(12 * pool.size(), units), 1,
                                                       ceil_div<std::int64_t>(a.rows, 16 * table.best_rows));
  ScratchSlots slots;
  pool.parallel_for(units * chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    const int slot = slots.take();
    for (std::int64_t piece = begin; piece < end; ++piece) {
      const std::int64_t tile = piece / chunks * step, chunk = piece % chunks;
      const std::int64_t after = (piece + pool.size()) / chunks * step;
      multiply_unpacked(
          table, product,
          {.row_begin = a.rows * chunk / chunks,
           .row_end = a.rows * (chunk + 1) / chunks,
           .tile_begin = tile,
           .tile_end = std::min(tile + step, product.tiles()),
           .weight_after = after < product.tiles() ? product.weight + after * product.tile_bytes(table) : nullptr},
          a.scratch + slot * unpacked_bytes(a.in_features));
    }
    slots.give_back(slot);
  });
}

std::size_t lossless_tiles_scratch(const LinearShape& s, int threads) {
  return static_cast<std::size_t>(threads * unpacked_bytes(s.in_features));
}

int ScratchSlots::take() {
  for (std::size_t word = 0;; word = (word + 1) % taken_.size()) {
    std::uint64_t bits = taken_[word].load(std::memory_order_relaxed);
    while (~bits) {
      const int free = std::countr_one(bits);
      if (taken_[word].compare_exchange_weak(bits, bits | std::uint64_t{1} << free, std::memory_order_acquire))
        return static_cast<int>(word) * 64 + free;
    }
  }
}

void ScratchSlots::give_back(int slot) {
  taken_[static_cast<std::size_t>(slot / 64)].fetch_and(~(std::uint64_t{1} << slot % 64), std::memory_order_release);
}

std::size_t lossless_plain_bytes(const LinearShape& s, int) {
  return static_cast<std::size_t>(s.out_features * s.in_features) * sizeof(std::uint16_t);
}

LinearArgs lossless_plain(const LinearArgs& a) {
  unpack_rows({DType::bf16, {a.out_features, a.in_features}, Lossless{}}, 0, a.out_features, a.weight, a.scratch);
  LinearArgs plain = a;
  plain.weight = a.scratch;
  plain.packed = {};
  return plain;
}

}  // namespace cajal::cpu
