#pragma once
// The vector type of the AVX2 row-wise and attention kernels. Include it before the region that uses it.
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/vec_avx2.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
namespace cajal::cpu::avx2 {

struct V {
  using F = __m256;
  static constexpr std::int64_t kLanes = 8;

  static F zero() { return _mm256_setzero_ps(); }
  static F set1(float f) { return _mm256_set1_ps(f); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  // v, but zero where it is less.
  static F zero_below(F least, F v) { return _mm256_and_ps(v, _mm256_cmp_ps(v, least, _CMP_NLT_UQ)); }
  static F exp(F a) { return exp_f32(a); }
  static F silu(F a) { return silu_f32(a); }

  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static F load(const std::uint16_t* p) { return load_bf16(p); }
  static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static void store(std::uint16_t* p, F v) { store_bf16(p, v); }
  // The first n lanes, n in 1..8: the others are not touched in memory and are zero in the result.
  static F load(const float* p, std::int64_t n) { return _mm256_maskload_ps(p, lanes(n)); }
  static F load(const std::uint16_t* p, std::int64_t n) {
    if (n >= kLanes) return load_bf16(p);
    std::uint16_t whole[kLanes] = {};
    for (std::int64_t i = 0; i < n; ++i) whole[i] = p[i];
    return load_bf16(whole);
  }
  static void store(float* p, F v, std::int64_t n) { _mm256_maskstore_ps(p, lanes(n), v); }
  static void store(std::uint16_t* p, F v, std::int64_t n) {
    if (n >= kLanes) return store_bf16(p, v);
    std::uint16_t whole[kLanes];
    store_bf16(whole, v);
    for (std::int64_t i = 0; i < n; ++i) p[i] = whole[i];
  }

  static F round(Bf16, F v) { return round_to_bf16(v); }
  static F round(F32, F v) { return v; }

  static F load(const std::int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static F load(const std::int8_t* p, std::int64_t n) {
    if (n >= kLanes) return load(p);
    std::int8_t whole[kLanes] = {};
    for (std::int64_t i = 0; i < n; ++i) whole[i] = p[i];
    return load(whole);
  }
  // The nearest integers, ties to even, of the first n lanes; they are in -127..127.
  static void store_int8(std::int8_t* p, F v, std::int64_t n) {
    const __m256i q = _mm256_cvtps_epi32(v);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    const std::int64_t bytes = _mm_cvtsi128_si64(_mm_packs_epi16(words, words));
    __builtin_memcpy(p, &bytes, static_cast<std::size_t>(n));
  }

  // Bits of the largest magnitude so far, as unsigned numbers: those of a NaN are larger than any other's.
  static __m256i zero_magnitudes() { return _mm256_setzero_si256(); }
  static __m256i max_magnitudes(__m256i most, F v) {
    return _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff)));
  }
  static std::uint32_t largest(__m256i most) {
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(m));
  }

  // Lane i of `yes` where bit i is set, else of `no`.
  static F select(std::uint64_t bits, F yes, F no) {
    const __m256i one = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits & 0xff)), one);
    return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, one)));
  }
  static float first(F v) { return _mm256_cvtss_f32(v); }
  static float max_of(F v) {
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
  }
  // sum_tree() of the 64 lanes.
  static float sum_tree(const F (&v)[8]) {
    const F low = add(add(v[0], v[2]), add(v[4], v[6])), high = add(add(v[1], v[3]), add(v[5], v[7]));
    const F a = add(low, high);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }

 private:
  static __m256i lanes(std::int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

}  // namespace cajal::cpu::avx2
CAJAL_TARGET_REGION_END
