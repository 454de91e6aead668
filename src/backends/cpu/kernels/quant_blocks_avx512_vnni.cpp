// Quantised blocks for AVX-512 with vpdpbusd, which adds the products of four unsigned and four signed bytes.
#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "backends/cpu/kernels/quant_blocks.h"
#include "backends/cpu/kernels/quant_scales_avx512.h"
#include "backends/cpu/kernels/vec_avx512.h"
#include "backends/cpu/unroll.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_VNNI)
#include "backends/cpu/kernels/quant_blocks_impl.h"

namespace cajal::cpu {
namespace {

struct Avx512Vnni {
  static constexpr int kMaxVectors = 8, kBestRows = 6;
  using Sum = __m512;
  using Int = __m512i;
  using Weight = __m512i;
  using X = __m512i;
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Sum v) { _mm512_storeu_ps(p, v); }
  static Sum add(Sum a, Sum b) { return _mm512_add_ps(a, b); }
  static Sum times_powers(Sum a, const std::byte* exponents) {
    const __m512i e = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(exponents)));
    return _mm512_mul_ps(a, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(e, _mm512_set1_epi32(127)), 23)));
  }
  static Int broadcast(std::int32_t v) { return _mm512_set1_epi32(v); }
  static Weight load_weight(const std::byte* p) { return _mm512_loadu_si512(p); }
  static Weight low(Weight w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
  static Weight high(Weight w) { return _mm512_and_si512(_mm512_srli_epi16(w, 4), _mm512_set1_epi8(15)); }
  template <int kBits>
  static X load_x(const std::byte* p) {
    std::int32_t four;
    std::memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  template <int kBits>
  static void dot(Int& sum, Weight w, X x) {
    // Not the intrinsic: GCC 12 copies every sum twice a step around it, and runs out of registers.
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
  }
  static Int load_scales(const std::byte* p) { return avx512::load_quant_scales(p); }
  static void accumulate(Sum& sum, Int dot, Int scales, std::int32_t exponent) {
    const __m512 scale = _mm512_castsi512_ps(_mm512_add_epi32(scales, _mm512_set1_epi32(exponent)));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, sum);
  }
  static Sum load_bias(const std::byte* p, std::int64_t n, DType dtype) {
    const __mmask16 lanes = avx512::first_lanes(n);
    return dtype == DType::bf16 ? avx512::load_bf16(p, lanes) : _mm512_maskz_loadu_ps(lanes, p);
  }
  static void store_y(std::byte* p, Sum v, std::int64_t n, DType dtype) {
    const __mmask16 lanes = avx512::first_lanes(n);
    dtype == DType::bf16 ? avx512::store_bf16(p, v, lanes) : _mm512_mask_storeu_ps(p, lanes, v);
  }
  template <int kVectors>
  static bool round_vectors(const std::byte* group, DType dtype, int offset, std::byte* out) {
    __m512 v[kVectors];
    __m512i magnitudes = _mm512_setzero_si512();
    CAJAL_UNROLL for (int i = 0; i < kVectors; ++i) {
      v[i] = dtype == DType::bf16 ? avx512::load_bf16(group + i * 32) : _mm512_loadu_ps(group + i * 64);
      magnitudes =
          _mm512_max_epu32(magnitudes, _mm512_and_si512(_mm512_castps_si512(v[i]), _mm512_set1_epi32(0x7fffffff)));
    }
    const std::uint32_t largest = _mm512_reduce_max_epu32(magnitudes);
    // Infinities, NaNs and nothing: seldom, and not worth a second way.
    if (!activations_round(largest)) return round_group_ref(group, dtype, kVectors * 16, offset, out);
    const std::int32_t k = activation_exponent(largest);
    const __m512 inverse = _mm512_set1_ps(power_of_two(-k));
    __m512i sums = _mm512_setzero_si512();
    CAJAL_UNROLL for (int i = 0; i < kVectors; ++i) {
      const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v[i], inverse));
      sums = _mm512_add_epi32(sums, q);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * 16), _mm512_cvtepi32_epi8(q));
    }
    end_group(out + kVectors * 16, k, -offset * _mm512_reduce_add_epi32(sums));
    return true;
  }
  static bool round_group(const std::byte* group, DType dtype, std::int64_t size, int offset, std::byte* out) {
    return size == 32 ? round_vectors<2>(group, dtype, offset, out) : round_vectors<8>(group, dtype, offset, out);
  }
};

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
constexpr QuantBlockTable kQuantBlocksAvx512Vnni = make_quant_table<Avx512Vnni>();
}  // namespace cajal::cpu
