#pragma once
// Sixteen f32 at a time: bf16 in and out, exp and silu with the bits of activation.h. Only for functions inside a
// CAJAL_AVX512 region or a stronger one; include it before the region.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backends/cpu/isa.h"
#include "backends/cpu/kernels/activation.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512)
namespace cajal::cpu::avx512 {

using Vec = __m512;
using Mask = __mmask16;
constexpr int kLanes = 16;

// The lanes 0..n-1, for n in 0..16: the tail of a row.
inline Mask first_lanes(std::int64_t n) { return static_cast<Mask>((1u << n) - 1u); }

inline Vec widen_bf16(__m256i b) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16)); }

inline Vec load_bf16(const void* p) { return widen_bf16(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }
inline Vec load_bf16(const void* p, Mask m) { return widen_bf16(_mm256_maskz_loadu_epi16(m, p)); }

// The bits of float_to_bf16 in the upper half of each lane; the lower half is whatever it is.
inline __m512i bf16_bits_high(Vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const Mask nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
}

inline __m256i narrow_bf16(Vec v) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bf16_bits_high(v), 16)); }

inline void store_bf16(void* p, Vec v) { _mm256_storeu_si256(static_cast<__m256i*>(p), narrow_bf16(v)); }
inline void store_bf16(void* p, Vec v, Mask m) { _mm256_mask_storeu_epi16(p, m, narrow_bf16(v)); }

// bf16_to_float(float_to_bf16(v))
inline Vec round_to_bf16(Vec v) {
  return _mm512_castsi512_ps(_mm512_and_si512(bf16_bits_high(v), _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

inline Vec exp_f32(Vec x) {
  using namespace exp_constants;
  x = _mm512_max_ps(_mm512_set1_ps(kLowest), x);  // a NaN in the second operand is the result
  x = _mm512_min_ps(_mm512_set1_ps(kHighest), x);
  const Vec shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(kLog2E), _mm512_set1_ps(kRound));
  const Vec n = _mm512_sub_ps(shifted, _mm512_set1_ps(kRound));
  const Vec r = _mm512_fmadd_ps(n, _mm512_set1_ps(-kLn2Low), _mm512_fmadd_ps(n, _mm512_set1_ps(-kLn2High), x));
  Vec p = _mm512_fmadd_ps(_mm512_set1_ps(kC6), r, _mm512_set1_ps(kC5));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kC4));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kC3));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kC2));
  p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);  // p * 2^n, rounded once, as by two factors elsewhere
}

inline Vec silu_f32(Vec x) {
  x = _mm512_max_ps(_mm512_set1_ps(-0x1.fffffep+127f), x);
  const Vec negated = _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
  return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), exp_f32(negated)));
}

// Pairs of bf16 as two vectors: their odd, which are the upper ones, and their even numbers.
struct Bf16Pairs {
  __m512 odd, even;
};
inline Bf16Pairs widen_pairs(__m512i pairs) {
  return {_mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))),
          _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16))};
}
inline Bf16Pairs broadcast_pair(const std::byte* p) {
  std::int32_t pair;
  std::memcpy(&pair, p, sizeof pair);
  return widen_pairs(_mm512_set1_epi32(pair));
}

}  // namespace cajal::cpu::avx512
CAJAL_TARGET_REGION_END
