#include "backends/cpu/kernels/moe.h"

#include <cstring>

#include "backends/cpu/kernels/activation.h"
#include "backends/cpu/kernels/linear_quant.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/moe_grouped.h"
#include "backends/cpu/kernels/moe_layout.h"
#include "backends/cpu/kernels/moe_quant.h"
#include "backends/cpu/kernels/tile_product.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

// The classes of Linear, with roundings to dtype behind each step and sums over the choices in their order.
constexpr const char* kBf16Class = "experts of bf16 pairs, odd first, fma f32, flush denormals";
constexpr const char* kTilesClass = "experts of bf16 in blocks of 32 columns, even ones and odd ones by fma f32";
constexpr const char* kF32Class = "experts of f32 ascending fma";

// Every pair's product by itself: y[pair] = matrix of its expert * x[pair / x_share].
void multiply_ref(const MoeArgs& a, const ExpertMatrix& m, const std::byte* weights, const std::byte* x,
                  std::int64_t x_share, int sum_parts, Order order, std::byte* y, ThreadPool& pool) {
  const std::int64_t x_row = m.inputs * static_cast<std::int64_t>(size_of(a.dtype));
  const DType y_dtype = weights == a.down ? a.output_dtype() : a.dtype;
  pool.parallel_for(a.rows * a.top_k * m.outputs, 16, [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush(a.dtype == DType::bf16);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t pair = i / m.outputs, n = i % m.outputs;
      const std::int32_t e = a.expert_of(pair);
      const MatrixRef expert{weights + e * m.bytes(), m.inputs, m.packed, m.dtype};
      store_element(y, i, y_dtype, e < 0 ? 0.0f : dot_ref(x + pair / x_share * x_row, expert, n, sum_parts, order));
    }
  });
}

template <Order order>
void moe_ref(const MoeArgs& a, ThreadPool& pool) {
  const MoeScratch at = moe_scratch(a);
  std::byte *gate_up = a.scratch + at.gate_up, *hidden = a.scratch + at.hidden, *out = a.scratch + at.out;
  multiply_ref(a, gate_up_of(a), a.gate_up, a.x, a.top_k, 1, order, gate_up, pool);
  activate_ref(a, gate_up, hidden);
  multiply_ref(a, down_of(a), a.down, hidden, 1, a.sum_parts, order, out, pool);
  combine_ref(a, out);
}

template <const BlockTable& table, std::uint32_t isa>
void moe_grouped(const MoeArgs& a, ThreadPool& pool) {
  run_grouped_moe(table, isa, a, pool);
}

std::size_t scratch_bytes(const MoeShape& s, int) { return moe_scratch(s).bytes; }

bool packed_for(const MoeShape& s, DType dtype) {
  const Storage tile = Packed{kTileOutputs, dtype == DType::bf16 ? 2 : 1};
  return s.dtype == dtype && s.gate_up_storage == tile && s.down_storage == tile;
}
bool tiles_bf16(const MoeShape& s) { return packed_for(s, DType::bf16); }
bool tiles_f32(const MoeShape& s) { return packed_for(s, DType::f32); }
bool even_tiles_bf16(const MoeShape& s) {
  return tiles_bf16(s) && s.hidden_size % 2 == 0 && s.intermediate_size % 2 == 0;
}
bool any_quantized(const MoeShape& s) {
  return std::holds_alternative<Quantized>(s.gate_up_storage) || std::holds_alternative<Quantized>(s.down_storage);
}
bool quantized(const MoeShape& s) {
  return is_quant_storage(s.down_storage, s.dtype) && s.gate_up_storage == s.down_storage;
}
bool lossless(const MoeShape& s) {
  return std::holds_alternative<Lossless>(s.gate_up_storage) && s.gate_up_storage == s.down_storage;
}
bool anything(const MoeShape& s) { return !any_quantized(s) && !std::holds_alternative<Lossless>(s.down_storage); }
bool any_bf16(const MoeShape& s) { return s.dtype == DType::bf16 && anything(s); }

template <const QuantBlockTable& table, std::uint32_t isa>
void moe_quant(const MoeArgs& a, ThreadPool& pool) {
  run_quant_moe(table, isa, a, pool);
}

template <const QuantTiles& tiles, std::uint32_t isa>
void moe_quant_tiles(const MoeArgs& a, ThreadPool& pool) {
  run_quant_moe(tiles, isa, a, pool);
}

constexpr std::uint32_t kUpToAvx512 = kAvx2 | kAvx512, kUpToBf16 = kUpToAvx512 | kAvx512Bf16;

constexpr MoeKernel kKernels[] = {
    {"moe_bf16_amx_grouped", kTilesClass, kUpToBf16 | kAmx, tiles_bf16, moe_grouped<kBlocksBf16Amx, kUpToBf16>,
     scratch_bytes},
    {"moe_lossless_amx_grouped", kTilesClass, kUpToBf16 | kAmx, lossless,
     moe_grouped<kBlocksLosslessTileOrder, kUpToBf16>, lossless_moe_scratch},
    {"moe_bf16_avx512_bf16_grouped", kBf16Class, kUpToBf16, tiles_bf16, moe_grouped<kBlocksBf16Avx512Bf16, kUpToBf16>,
     scratch_bytes},
    {"moe_lossless_avx512_bf16_grouped", kBf16Class, kUpToBf16, lossless,
     moe_grouped<kBlocksLosslessAvx512Bf16, kUpToBf16>, lossless_moe_scratch},
    {"moe_bf16_avx512_grouped", kBf16Class, kUpToAvx512, tiles_bf16, moe_grouped<kBlocksBf16Avx512, kUpToAvx512>,
     scratch_bytes},
    {"moe_bf16_avx2_grouped", kBf16Class, kAvx2, tiles_bf16, moe_grouped<kBlocksBf16Avx2, kAvx2>, scratch_bytes},
    {"moe_f32_avx512_grouped", kF32Class, kUpToAvx512, tiles_f32, moe_grouped<kBlocksF32Avx512, kUpToAvx512>,
     scratch_bytes},
    {"moe_f32_avx2_grouped", kF32Class, kAvx2, tiles_f32, moe_grouped<kBlocksF32Avx2, kAvx2>, scratch_bytes},
    {"moe_quant_amx", kQuantClass, kUpToAvx512 | kAvx512Vnni | kAmx, quantized,
     moe_quant_tiles<kQuantTilesAmx, kUpToAvx512>, quant_moe_tiles_scratch},
    {"moe_quant_avx512_vnni", kQuantClass, kUpToAvx512 | kAvx512Vnni, quantized,
     moe_quant<kQuantBlocksAvx512Vnni, kUpToAvx512>, quant_moe_scratch},
    // For tests: whatever this takes has been taken already.
    {"moe_quant_portable_tiles", kQuantClass, kUpToAvx512 | kAvx512Vnni, quantized,
     moe_quant_tiles<kQuantTilesPortable, kUpToAvx512>, quant_moe_tiles_scratch},
    {"moe_quant_avx2", kQuantClass, kAvx2, quantized, moe_quant<kQuantBlocksAvx2, kAvx2>, quant_moe_scratch},
    {"moe_quant_ref", kQuantClass, kBaseline, quantized, run_quant_moe_ref, quant_moe_scratch},
    {"moe_bf16_baseline_grouped", kBf16Class, kBaseline, tiles_bf16, moe_grouped<kBlocksBf16Sse2, kBaseline>,
     scratch_bytes},
    {"moe_f32_baseline_grouped", kF32Class, kBaseline, tiles_f32, moe_grouped<kBlocksF32Sse2, kBaseline>,
     scratch_bytes},
    {"moe_bf16_ref", kBf16Class, kBaseline, any_bf16, moe_ref<Order::pairs>, scratch_bytes},
    // Of the class of AMX, for tests: whatever these take has been taken already.
    {"moe_bf16_portable_tiles", kTilesClass, kBaseline, tiles_bf16, moe_grouped<kBlocksBf16PortableTiles, kBaseline>,
     scratch_bytes},
    {"moe_bf16_avx512_tile_order", kTilesClass, kUpToBf16, even_tiles_bf16,
     moe_grouped<kBlocksBf16TileOrder, kUpToBf16>, scratch_bytes},
    {"moe_bf16_tiles_ref", kTilesClass, kBaseline, any_bf16, moe_ref<Order::tiles>, scratch_bytes},
    {"moe_ref", kF32Class, kBaseline, anything, moe_ref<Order::pairs>, scratch_bytes},
};

}  // namespace

void activate_ref(const MoeArgs& a, const std::byte* gate_up, std::byte* hidden) {
  const std::int64_t n = a.intermediate_size;
  for (std::int64_t i = 0; i < a.rows * a.top_k * n; ++i) {
    const std::int64_t gate = i / n * 2 * n + i % n;
    const float silu = round_to(a.dtype, silu_f32(load_element(gate_up, gate, a.dtype)));
    store_element(hidden, i, a.dtype, silu * load_element(gate_up, gate + n, a.dtype));
  }
}

void combine_ref(const MoeArgs& a, const std::byte* out) {
  if (a.partial) {
    std::memcpy(a.y, out, static_cast<std::size_t>(a.rows * a.top_k * a.hidden_size) * sizeof(float));
    return;
  }
  for (std::int64_t i = 0; i < a.rows * a.hidden_size; ++i) {
    const std::int64_t row = i / a.hidden_size, column = i % a.hidden_size;
    float sum = 0;
    for (std::int64_t pair = row * a.top_k; pair < (row + 1) * a.top_k; ++pair)
      if (a.ids[pair] >= 0)
        sum += round_to(a.dtype, load_element(a.weights, pair, a.dtype) *
                                     load_element(out, pair * a.hidden_size + column, a.dtype));
    store_element(a.y, i, a.dtype, sum);
  }
}

std::span<const MoeKernel> moe_kernels() { return kKernels; }

}  // namespace cajal::cpu
