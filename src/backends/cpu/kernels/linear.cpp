#include "backends/cpu/kernels/linear.h"

#include <algorithm>

#include "backends/cpu/kernels/linear_blocks.h"
#include "backends/cpu/kernels/linear_lossless.h"
#include "backends/cpu/kernels/linear_quant.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/tile_product.h"
#include "base/checked.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

// bf16: groups of two columns from k = 0, of each the odd one first, a missing one zero; each step is a fused
// multiply-add in f32 that takes denormals as zero and flushes them. This is what vdpbf16ps computes.
constexpr const char* kBf16Class = "bf16 pairs, odd first, fma f32, flush denormals";
// f32: fused multiply-adds in ascending order.
constexpr const char* kF32Class = "f32 ascending fma";

template <Order order>
void linear_ref(const LinearArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows * a.out_features, 16, [&a](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush(a.dtype == DType::bf16);
    const MatrixRef weight{a.weight, a.in_features, a.packed, a.dtype};
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i / a.out_features, n = i % a.out_features;
      const std::byte* x = a.x + row * a.in_features * static_cast<std::int64_t>(size_of(a.dtype));
      float sum = dot_ref(x, weight, n, a.sum_parts, order);
      if (a.bias) sum += load_element(a.bias, n, a.dtype);
      store_element(a.y, i, a.partial ? DType::f32 : a.dtype, sum);
    }
  });
}

const std::byte* weight_of(const BlockTable& table, const MatrixProduct& product, std::int64_t tile) {
  return tile < product.tiles() ? product.weight + tile * product.tile_bytes(table) : nullptr;
}

// Few rows: the weights come from memory once, several tiles of a thread at a time; pieces of tiles.
template <const BlockTable& table>
void linear_stream(const LinearArgs& a, ThreadPool& pool) {
  const MatrixProduct product = linear_product(a);
  const std::int64_t step = tiles_at_once(table, a.rows), units = ceil_div(product.tiles(), step);
  // At least eight pieces a thread where there are so many, at most 512 KiB of weights in one.
  const std::int64_t unit_bytes = step * product.tile_bytes(table);
  const std::int64_t most =
      std::max<std::int64_t>(1, (std::int64_t{512} << 10) / std::max<std::int64_t>(unit_bytes, 1));
  const std::int64_t grain = std::clamp<std::int64_t>(units / (8 * pool.size()), 1, most);
  pool.parallel_for_runs(units, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * step, stop = std::min(end * step, product.tiles());
    multiply_tiles(table, product, {0, a.rows, first, stop, weight_of(table, product, stop)});
  });
}

// Many rows: a few tiles, which stay in a cache, times all rows of a chunk.
template <const BlockTable& table>
void linear_tiles(const LinearArgs& a, ThreadPool& pool) {
  if (a.rows <= table.max_rows) return linear_stream<table>(a, pool);
  const MatrixProduct product = linear_product(a);
  const std::int64_t step = tiles_at_once(table, a.rows), units = ceil_div(product.tiles(), step);
  // Rows are cut only as far as it takes to give every thread several pieces.
  const std::int64_t wanted = ceil_div<std::int64_t>(12 * pool.size(), units);
  const std::int64_t chunks = std::clamp<std::int64_t>(wanted, 1, ceil_div<std::int64_t>(a.rows, 8 * table.best_rows));
  // Neighbouring tiles in one piece, since the next ones are fetched during the last rows of these.
  const std::int64_t grain = std::max<std::int64_t>(1, units / (8 * pool.size()));
  const std::int64_t pieces = ceil_div(units, grain) * chunks;
  const auto first_tile = [&](std::int64_t piece) { return piece / chunks * grain * step; };
  pool.parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t chunk = i % chunks;
      multiply_tiles(table, product,
                     {.row_begin = a.rows * chunk / chunks,
                      .row_end = a.rows * (chunk + 1) / chunks,
                      .tile_begin = first_tile(i),
                      .tile_end = std::min(first_tile(i) + grain * step, product.tiles()),
                      .weight_after = weight_of(table, product, first_tile(i + pool.size())),
                      .fetched = i >= pool.size()});
    }
  });
}

// Many rows: as many of them as a core's second cache keeps, times all tiles, then the next ones.
template <const BlockTable& table>
void multiply_chunks(const MatrixProduct& product, ThreadPool& pool) {
  constexpr std::int64_t kChunkBytes = std::int64_t{1} << 20;
  const std::int64_t step = tiles_at_once(table, product.rows), units = ceil_div(product.tiles(), step);
  const std::int64_t blocks = ceil_div<std::int64_t>(product.rows, table.best_rows);
  const std::int64_t block_bytes = table.best_rows * product.in_features * 2;
  const std::int64_t chunks = std::min(
      std::max(ceil_div(blocks * block_bytes, kChunkBytes), ceil_div<std::int64_t>(4 * pool.size(), units)), blocks);
  const auto first_row = [&](std::int64_t chunk) {
    return std::min(blocks * chunk / chunks * table.best_rows, product.rows);
  };
  const std::int64_t grain = std::max<std::int64_t>(1, units / (8 * pool.size()));
  const std::int64_t groups = ceil_div(units, grain);
  const auto first_tile = [&](std::int64_t piece) { return piece % groups * grain * step; };
  pool.parallel_for(groups * chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      multiply_tiles(table, product,
                     {.row_begin = first_row(i / groups),
                      .row_end = first_row(i / groups + 1),
                      .tile_begin = first_tile(i),
                      .tile_end = std::min(first_tile(i) + grain * step, product.tiles()),
                      .weight_after = weight_of(table, product, first_tile(i + pool.size())),
                      .fetched = i >= pool.size()});
  });
}

// Rows of x in panels first, where there are several and each thread has enough outputs to gain from them: lines that all threads have
// read take long to be written again.
template <const BlockTable& table>
void linear_by_tiles(const LinearArgs& a, ThreadPool& pool) {
  if (a.rows <= table.max_rows) return linear_stream<table>(a, pool);
  constexpr std::int64_t kLeastOutputs = 512;
  MatrixProduct product = linear_product(a);
  if (a.out_features < kLeastOutputs * pool.size()) return multiply_chunks<table>(product, pool);
  const PanelLayout panels{a.in_features, a.sum_parts};
  pool.parallel_for(a.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) pack_panel_row(panels, r, a.x + r * product.x_stride, a.scratch);
  });
  product.x = a.scratch;
  product.x_in_panels = true;
  multiply_chunks<table>(product, pool);
}

std::size_t panels_scratch(const LinearShape& s, int) {
  return static_cast<std::size_t>(PanelLayout{s.in_features, s.sum_parts}.bytes(s.rows));
}

bool packed_for(const LinearShape& s, DType dtype) {
  const auto* packed = std::get_if<Packed>(&s.storage);
  return s.dtype == dtype && packed && *packed == Packed{kTileOutputs, dtype == DType::bf16 ? 2 : 1};
}
bool tiles_bf16(const LinearShape& s) { return packed_for(s, DType::bf16); }
bool tiles_f32(const LinearShape& s) { return packed_for(s, DType::f32); }
bool few_rows_bf16(const LinearShape& s) { return tiles_bf16(s) && s.rows <= kMaxBlockRows; }
bool few_rows_f32(const LinearShape& s) { return tiles_f32(s) && s.rows <= kMaxBlockRows; }
bool quantized(const LinearShape& s) { return is_quant_storage(s.storage, s.dtype); }
bool few_rows_lossless(const LinearShape& s) { return is_lossless(s) && s.rows <= kMaxBlockRows; }
bool even_tiles_bf16(const LinearShape& s) { return tiles_bf16(s) && s.in_features % 2 == 0; }
bool few_rows_of_even_lossless(const LinearShape& s) {
  return is_lossless(s) && has_block_for(kBlocksLosslessTileOrder, s.rows, s.in_features);
}
bool anything(const LinearShape& s) { return !std::holds_alternative<Quantized>(s.storage) && !is_lossless(s); }
bool any_bf16(const LinearShape& s) { return s.dtype == DType::bf16 && anything(s); }

template <const QuantBlockTable& table>
void linear_quant(const LinearArgs& a, ThreadPool& pool) {
  run_quant_linear(table, a, pool);
}

template <const QuantTiles& tiles>
void linear_quant_tiles(const LinearArgs& a, ThreadPool& pool) {
  run_quant_linear(tiles, a, pool);
}

template <const BlockTable& table>
void linear_lossless_tiles(const LinearArgs& a, ThreadPool& pool) {
  if (has_block_for(table, a.rows, a.in_features)) return linear_stream<table>(a, pool);
  run_lossless_tiles(table, a, pool);
}

template <Order order>
void linear_lossless_ref(const LinearArgs& a, ThreadPool& pool) {
  linear_ref<order>(lossless_plain(a), pool);
}

constexpr LinearKernel kKernels[] = {
    {"linear_bf16_amx", kTilesBf16Class, kAvx512Bf16 | kAmx, tiles_bf16, linear_by_tiles<kBlocksBf16Amx>,
     panels_scratch},
    {"linear_lossless_amx", kTilesBf16Class, kAvx512Bf16 | kAmx, is_lossless,
     linear_lossless_tiles<kBlocksLosslessTileOrder>, lossless_tiles_scratch},
    {"linear_bf16_avx512_bf16_stream", kBf16Class, kAvx512Bf16, few_rows_bf16, linear_stream<kBlocksBf16Avx512Bf16>},
    {"linear_bf16_avx512_bf16_tiles", kBf16Class, kAvx512Bf16, tiles_bf16, linear_tiles<kBlocksBf16Avx512Bf16>},
    {"linear_lossless_avx512_bf16_stream", kBf16Class, kAvx512Bf16, few_rows_lossless,
     linear_stream<kBlocksLosslessAvx512Bf16>},
    {"linear_lossless_avx512_bf16_tiles", kBf16Class, kAvx512Bf16, is_lossless,
     linear_lossless_tiles<kBlocksLosslessAvx512Bf16>, lossless_tiles_scratch},
    {"linear_bf16_avx512_stream", kBf16Class, kAvx512, few_rows_bf16, linear_stream<kBlocksBf16Avx512>},
    {"linear_bf16_avx512_tiles", kBf16Class, kAvx512, tiles_bf16, linear_tiles<kBlocksBf16Avx512>},
    {"linear_bf16_avx2_stream", kBf16Class, kAvx2, few_rows_bf16, linear_stream<kBlocksBf16Avx2>},
    {"linear_bf16_avx2_tiles", kBf16Class, kAvx2, tiles_bf16, linear_tiles<kBlocksBf16Avx2>},
    {"linear_f32_avx512_stream", kF32Class, kAvx512, few_rows_f32, linear_stream<kBlocksF32Avx512>},
    {"linear_f32_avx512_tiles", kF32Class, kAvx512, tiles_f32, linear_tiles<kBlocksF32Avx512>},
    {"linear_f32_avx2_stream", kF32Class, kAvx2, few_rows_f32, linear_stream<kBlocksF32Avx2>},
    {"linear_f32_avx2_tiles", kF32Class, kAvx2, tiles_f32, linear_tiles<kBlocksF32Avx2>},
    {"linear_quant_amx", kQuantClass, kAvx512Vnni | kAmx, quantized, linear_quant_tiles<kQuantTilesAmx>,
     quant_linear_tiles_scratch},
    {"linear_quant_avx512_vnni", kQuantClass, kAvx512Vnni, quantized, linear_quant<kQuantBlocksAvx512Vnni>,
     quant_linear_scratch},
    // For tests: whatever this takes has been taken already.
    {"linear_quant_portable_tiles", kQuantClass, kAvx512Vnni, quantized, linear_quant_tiles<kQuantTilesPortable>,
     quant_linear_tiles_scratch},
    {"linear_quant_avx2", kQuantClass, kAvx2, quantized, linear_quant<kQuantBlocksAvx2>, quant_linear_scratch},
    {"linear_quant_ref", kQuantClass, kBaseline, quantized, run_quant_linear_ref, quant_linear_scratch},
    {"linear_bf16_baseline", kBf16Class, kBaseline, tiles_bf16, linear_tiles<kBlocksBf16Sse2>},
    {"linear_f32_baseline", kF32Class, kBaseline, tiles_f32, linear_tiles<kBlocksF32Sse2>},
    {"linear_lossless_ref", kBf16Class, kBaseline, is_lossless, linear_lossless_ref<Order::pairs>,
     lossless_plain_bytes},
    {"linear_bf16_ref", kBf16Class, kBaseline, any_bf16, linear_ref<Order::pairs>},
    // Of the class of AMX, for tests: whatever these take has been taken already.
    {"linear_bf16_portable_tiles", kTilesBf16Class, kBaseline, tiles_bf16, linear_by_tiles<kBlocksBf16PortableTiles>,
     panels_scratch},
    {"linear_bf16_avx512_tile_order", kTilesBf16Class, kAvx512Bf16, even_tiles_bf16,
     linear_tiles<kBlocksBf16TileOrder>},
    {"linear_lossless_avx512_tile_order", kTilesBf16Class, kAvx512Bf16, few_rows_of_even_lossless,
     linear_stream<kBlocksLosslessTileOrder>},
    {"linear_lossless_tiles_ref", kTilesBf16Class, kBaseline, is_lossless, linear_lossless_ref<Order::tiles>,
     lossless_plain_bytes},
    {"linear_bf16_tiles_ref", kTilesBf16Class, kBaseline, any_bf16, linear_ref<Order::tiles>},
    {"linear_ref", kF32Class, kBaseline, anything, linear_ref<Order::pairs>},
};

}  // namespace

MatrixProduct linear_product(const LinearArgs& a) {
  const auto bytes = static_cast<std::int64_t>(size_of(a.dtype));
  return {.x = a.x,
          .x_stride = a.in_features * bytes,
          .weight = a.weight,
          .bias = a.bias,
          .y = a.y,
          .y_stride = a.out_features * (a.partial ? static_cast<std::int64_t>(sizeof(float)) : bytes),
          .rows = a.rows,
          .in_features = a.in_features,
          .out_features = a.out_features,
          .sum_parts = a.sum_parts,
          .partial = a.partial,
          .read_once = a.read_once};
}

std::span<const LinearKernel> linear_kernels() { return kKernels; }

Storage linear_weight_storage(DType dtype, std::uint32_t) {
  // Also without vector instructions: the layout costs the reference nothing, and a plan is the same everywhere.
  if (dtype == DType::bf16) return Packed{kTileOutputs, 2};
  if (dtype == DType::f32) return Packed{kTileOutputs, 1};
  return Plain{};
}

Storage quantized_weight_storage(const Quantized& wanted) {
  Quantized tiled = wanted;
  tiled.tile_rows = kQuantTileOutputs;
  if (!is_quant_storage(tiled, DType::bf16))
    fail(ErrorCode::unsupported, "weights in ", wanted.bits, " bits by groups of ", wanted.group_size,
         " have no kernel on the CPU", remedy("8 and 4 bits by groups of 32 and 128 do"));
  return tiled;
}

void check_lossless_weights(std::uint32_t isa) {
  if (!(isa & kAvx512Bf16))
    fail(ErrorCode::unsupported, "lossless weights on cpu-", isa_name(isa),
         ": only cpu-avx512_bf16 and cpu-amx have kernels for them",
         remedy("use --quantization none, which gives the same answers"));
}

}  // namespace cajal::cpu
