// Attention on AVX-512 with bf16 products.
#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/elementwise_vec512.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_BF16)
#include "backends/cpu/kernels/attention_tile.h"

namespace cajal::cpu::avx512_bf16 {
namespace {

using avx512::V;

struct Dot {
  using Type = Bf16;
  using Raw = std::uint16_t;
  using Keys = __m512i;
  static constexpr int kGroup = 2, kRows = 6, kVectors = 4;

  static void begin() {}
  static void end() {}
  static Keys keys(const std::uint16_t* k) { return _mm512_loadu_si512(k); }
  static Keys query(const std::uint16_t* q) {
    int pair;
    __builtin_memcpy(&pair, q, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static __m512 step(Keys q, Keys k, __m512 sum) { return _mm512_dpbf16_ps(sum, (__m512bh)q, (__m512bh)k); }
};

constexpr FlashParts kParts = {flash::chunk<V, Dot>, flash::merge<V>, flash::finish<V, Bf16>};

}  // namespace

void attention_bf16(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kParts); }

}  // namespace cajal::cpu::avx512_bf16
CAJAL_TARGET_REGION_END
