// Attention on AVX-512 with bf16 products.
#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/elementwise_vec512_bf16.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_BF16)
#include "backends/cpu/kernels/attention_tile.h"

namespace cajal::cpu::avx512_bf16 {
namespace {

__m512i low() { return _mm512_load_si512(flash::kLow.from); }
__m512i high() { return _mm512_load_si512(flash::kHigh.from); }

struct Dot {
  using Type = Bf16;
  using Raw = std::uint16_t;
  using Keys = __m512i;
  using Weight = __m512i;
  using Values = __m512i;
  static constexpr int kGroup = 2, kRows = 6, kVectors = 4, kPositions = 2;

  static void begin() {}
  static void end() {}
  static Keys keys(const std::uint16_t* k) { return _mm512_loadu_si512(k); }
  static Keys query(const std::uint16_t* q) {
    int pair;
    __builtin_memcpy(&pair, q, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static __m512 step(Keys q, Keys k, __m512 sum) { return _mm512_dpbf16_ps(sum, (__m512bh)q, (__m512bh)k); }

  static __m512 rounded(__m512 p) { return avx512::widen_bf16((__m256i)_mm512_cvtneps_pbh(p)); }
  // Probabilities become bf16, in the first half of their place: a pair has the size of a float.
  static void keep(float* p, float& again) {
    static_assert(kPiece == 64);
    const __m512bh low = _mm512_cvtne2ps_pbh(V::load(p + 16), V::load(p));
    const __m512bh high = _mm512_cvtne2ps_pbh(V::load(p + 48), V::load(p + 32));
    _mm512_storeu_si512(p, (__m512i)low);
    _mm512_storeu_si512(p + 16, (__m512i)high);
    again = flushed(again);
  }
  static Weight weight(const float* p, std::int64_t j) {
    int pair;
    __builtin_memcpy(&pair, p + (j >> 1), sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  // Lanes are columns, and have the values of both positions.
  template <int N>
  static void values(const std::uint16_t* const (&rows)[2], std::int64_t lanes, __m512i (&v)[N]) {
    static_assert(N == 1 || N % 2 == 0);
    if constexpr (N == 1) {
      const __mmask32 columns = avx512::first_lanes(lanes);
      v[0] = _mm512_permutex2var_epi16(_mm512_maskz_loadu_epi16(columns, rows[0]), low(),
                                       _mm512_maskz_loadu_epi16(columns, rows[1]));
    } else {
      CAJAL_UNROLL for (int n = 0; n < N; n += 2) {
        const __m512i even = _mm512_loadu_si512(rows[0] + n * 16), odd = _mm512_loadu_si512(rows[1] + n * 16);
        v[n] = _mm512_permutex2var_epi16(even, low(), odd);
        v[n + 1] = _mm512_permutex2var_epi16(even, high(), odd);
      }
    }
  }
  static __m512 add(Weight weight, Values values, __m512 sum) { return step(values, weight, sum); }
};

constexpr FlashParts kParts = {flash::chunk<V, Dot>, flash::merge<V>, flash::finish<V, Bf16>};

}  // namespace

void attention_bf16(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kParts); }

}  // namespace cajal::cpu::avx512_bf16
CAJAL_TARGET_REGION_END
