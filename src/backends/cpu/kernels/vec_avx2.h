#pragma once
// Eight f32 at a time: bf16 in and out, exp and silu with the bits of activation.h. Only for functions inside a
// CAJAL_AVX2 region or a stronger one; include it before the region.
#include <immintrin.h>

#include <cstdint>

#include "backends/cpu/isa.h"
#include "backends/cpu/kernels/activation.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
namespace cajal::cpu::avx2 {

using Vec = __m256;
constexpr int kLanes = 8;

inline Vec load_bf16(const void* p) {
  const __m128i b = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(b), 16));
}

// The bits of float_to_bf16 in the upper half of each lane; the lower half is whatever it is.
inline __m256i bf16_bits_high(Vec v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, nan);
}

inline void store_bf16(void* p, Vec v) {
  const __m256i high = _mm256_srli_epi32(bf16_bits_high(v), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

// bf16_to_float(float_to_bf16(v))
inline Vec round_to_bf16(Vec v) {
  return _mm256_castsi256_ps(_mm256_and_si256(bf16_bits_high(v), _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

inline Vec power_of_two(__m256i exponent) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
}

inline Vec exp_f32(Vec x) {
  using namespace exp_constants;
  x = _mm256_max_ps(_mm256_set1_ps(kLowest), x);  // a NaN in the second operand is the result
  x = _mm256_min_ps(_mm256_set1_ps(kHighest), x);
  const Vec shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(kLog2E), _mm256_set1_ps(kRound));
  const Vec n = _mm256_sub_ps(shifted, _mm256_set1_ps(kRound));
  const Vec r = _mm256_fmadd_ps(n, _mm256_set1_ps(-kLn2Low), _mm256_fmadd_ps(n, _mm256_set1_ps(-kLn2High), x));
  Vec p = _mm256_fmadd_ps(_mm256_set1_ps(kC6), r, _mm256_set1_ps(kC5));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kC4));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kC3));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kC2));
  p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
  const __m256i bits = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(_mm256_set1_ps(kRound)));
  const __m256i half = _mm256_srai_epi32(bits, 1);
  return _mm256_mul_ps(_mm256_mul_ps(p, power_of_two(half)), power_of_two(_mm256_sub_epi32(bits, half)));
}

inline Vec silu_f32(Vec x) {
  x = _mm256_max_ps(_mm256_set1_ps(-0x1.fffffep+127f), x);
  const Vec negated = _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
  return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_f32(negated)));
}

}  // namespace cajal::cpu::avx2
CAJAL_TARGET_REGION_END
