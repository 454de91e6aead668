#pragma once
// The vector type of the AVX-512 row-wise and attention kernels. Include it before the region that uses it.
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/vec_avx512.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512)
namespace cajal::cpu::avx512 {

struct V {
  using F = __m512;
  static constexpr std::int64_t kLanes = 16;

  static F zero() { return _mm512_setzero_ps(); }
  static F set1(float f) { return _mm512_set1_ps(f); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  // v, but zero where it is less.
  static F zero_below(F least, F v) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, least, _CMP_NLT_UQ), v); }
  static F exp(F a) { return exp_f32(a); }
  static F silu(F a) { return silu_f32(a); }

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load(const std::uint16_t* p) { return load_bf16(p); }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static void store(std::uint16_t* p, F v) { store_bf16(p, v); }
  // The first n lanes, n in 1..16: the others are not touched in memory and are zero in the result.
  static F load(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
  static F load(const std::uint16_t* p, std::int64_t n) { return load_bf16(p, first_lanes(n)); }
  static void store(float* p, F v, std::int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
  static void store(std::uint16_t* p, F v, std::int64_t n) { store_bf16(p, v, first_lanes(n)); }

  static F round(Bf16, F v) { return round_to_bf16(v); }
  static F round(F32, F v) { return v; }

  static F load(const std::int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static F load(const std::int8_t* p, std::int64_t n) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p)));
  }
  // The nearest integers, ties to even, of the first n lanes; they are in -127..127.
  static void store_int8(std::int8_t* p, F v, std::int64_t n) {
    _mm_mask_storeu_epi8(p, first_lanes(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }

  // Bits of the largest magnitude so far, as unsigned numbers: those of a NaN are larger than any other's.
  static __m512i zero_magnitudes() { return _mm512_setzero_si512(); }
  static __m512i max_magnitudes(__m512i most, F v) {
    return _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)));
  }
  static std::uint32_t largest(__m512i most) { return _mm512_reduce_max_epu32(most); }

  // Lane i of `yes` where bit i is set, else of `no`.
  static F select(std::uint64_t bits, F yes, F no) { return _mm512_mask_mov_ps(no, static_cast<Mask>(bits), yes); }
  static float first(F v) { return _mm512_cvtss_f32(v); }
  static float max_of(F v) {
    const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
  }
  // sum_tree() of the 64 lanes.
  static float sum_tree(const F (&v)[4]) {
    const F sum = add(add(v[0], v[1]), add(v[2], v[3]));
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
};

}  // namespace cajal::cpu::avx512
CAJAL_TARGET_REGION_END
