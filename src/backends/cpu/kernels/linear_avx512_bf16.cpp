// Blocks for AVX-512 with vdpbf16ps, which multiplies a whole group at once; of packed tiles, and of lossless ones.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "backends/cpu/kernels/linear_blocks.h"
#include "backends/cpu/kernels/vec_avx512_bf16.h"
#include "backends/cpu/unroll.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_BF16)
#include "backends/cpu/kernels/linear_blocks_impl.h"
#include "backends/cpu/kernels/linear_lossless_impl.h"

namespace cajal::cpu {
namespace {

struct Avx512DotBf16 {
  static constexpr DType kDType = DType::bf16;
  static constexpr int kMaxVectors = 24;
  using Sum = __m512;
  using X = __m512i;
  using Weight = __m512i;
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Sum v) { _mm512_storeu_ps(p, v); }
  static Sum add(Sum a, Sum b) { return _mm512_add_ps(a, b); }
  static Weight load_weight(const std::byte* p) { return _mm512_loadu_si512(p); }
  static Weight widen(__m512i pairs) { return pairs; }
  static X load_x(const std::byte* p) {
    std::int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static void multiply_add(Sum& sum, X x, Weight w) {
    sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
  }
  static Sum load_bias(const std::byte* p, std::int64_t n) { return avx512::load_bf16(p, avx512::first_lanes(n)); }
  static void store_y(std::byte* p, Sum v, std::int64_t n) { avx512_bf16::store_bf16(p, v, avx512::first_lanes(n)); }
};

}  // namespace

void unpack_lossless_tile_avx512(const LosslessLayout& layout, const std::byte* tile, std::byte* packed) {
  LosslessTile reader(tile, layout.head_bytes());
  const std::int64_t groups = ceil_div<std::int64_t>(layout.columns, 2);
  for (std::int64_t g = 0, half = 0; g < groups; g += LosslessTile::kGroups, ++half) {
    const LosslessTile::Half two = reader.read(half, half % LosslessTile::kHalves != 0);
    _mm512_storeu_si512(packed + g * kGroupBytes, two.groups[0]);
    if (g + 1 < groups) _mm512_storeu_si512(packed + (g + 1) * kGroupBytes, two.groups[1]);
  }
}

}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
constexpr BlockTable kBlocksBf16Avx512Bf16 = [] {
  BlockTable table = make_table<Avx512DotBf16>(6);
  table.one_stream = true;
  return table;
}();
constexpr BlockTable kBlocksLosslessAvx512Bf16 = [] {
  BlockTable table = make_table<Lossless<Avx512DotBf16>>(6);
  table.unpacked = &kBlocksBf16Avx512Bf16;
  return table;
}();
}  // namespace cajal::cpu
