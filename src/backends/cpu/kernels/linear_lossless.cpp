#include "backends/cpu/kernels/linear_lossless.h"

#include <algorithm>
#include <atomic>

#include "tensor/pack.h"

namespace cajal::cpu {
namespace {

std::int64_t packed_tile_bytes(std::int64_t in_features) {
  return ceil_div<std::int64_t>(in_features, 2) * kGroupBytes;
}

// A thread's memory for unpacked tiles.
std::int64_t slot_bytes(std::int64_t in_features) { return kMaxBlockTiles * packed_tile_bytes(in_features); }

// Calls work(piece, slot) for all pieces; no two calls at a time have the same slot, of which there are as many as threads.
template <class Work>
void for_pieces(ThreadPool& pool, std::int64_t pieces, const Work& work) {
  std::atomic<std::int64_t> next{0};
  pool.parallel_for(pool.size(), 1, [&](std::int64_t slot, std::int64_t) {
    for (std::int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) work(piece, slot);
  });
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

void run_lossless_tiles(const BlockTable& lossless, const BlockTable& packed, const LinearArgs& a, ThreadPool& pool) {
  const MatrixProduct product = linear_product(a);
  const std::int64_t step = tiles_at_once(packed, a.rows), units = ceil_div(product.tiles(), step);
  // Rows are cut only as far as it takes to give every thread several pieces: each chunk unpacks the tiles again.
  const std::int64_t chunks = std::clamp<std::int64_t>(ceil_div<std::int64_t>(12 * pool.size(), units), 1,
                                                       ceil_div<std::int64_t>(a.rows, 16 * packed.best_rows));
  for_pieces(pool, units * chunks, [&](std::int64_t piece, std::int64_t slot) {
    const std::int64_t tile = piece / chunks * step, chunk = piece % chunks;
    const std::int64_t tiles = std::min(step, product.tiles() - tile), after = (piece + pool.size()) / chunks * step;
    const MatrixProduct part = unpacked(lossless, product, tile, tiles, a.scratch + slot * slot_bytes(a.in_features));
    multiply_tiles(
        packed, part,
        {.row_begin = a.rows * chunk / chunks,
         .row_end = a.rows * (chunk + 1) / chunks,
         .tile_begin = 0,
         .tile_end = tiles,
         .weight_after = after < product.tiles() ? product.weight + after * product.tile_bytes(lossless) : nullptr,
         .fetched = true});
  });
}

std::size_t lossless_tiles_scratch(const LinearShape& s, int threads) {
  return static_cast<std::size_t>(threads * slot_bytes(s.in_features));
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
