// Quantised blocks for AVX2. Products of unsigned and signed bytes in pairs saturate at 16 bits where the unsigned ones
// have eight: 8-bit weights are widened first, even and odd columns apart. 4-bit ones never come near that.
#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "backends/cpu/kernels/quant_blocks.h"
#include "backends/cpu/kernels/vec_avx2.h"
#include "backends/cpu/unroll.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
#include "backends/cpu/kernels/quant_blocks_impl.h"

namespace cajal::cpu {
namespace {

struct Avx2 {
  static constexpr int kMaxVectors = 2, kBestRows = 2;
  struct Sum {
    __m256 low, high;
  };
  struct Int {
    __m256i low, high;
  };
  using Weight = Int;
  // 8 bits: even columns, odd columns, as 16-bit numbers. 4 bits: the bytes.
  struct X {
    __m256i even, odd;
  };
  static Sum zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Sum load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store(float* p, const Sum& v) {
    _mm256_storeu_ps(p, v.low);
    _mm256_storeu_ps(p + 8, v.high);
  }
  static Sum add(const Sum& a, const Sum& b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static __m256i eight_integers(const std::byte* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static __m256 powers(__m256i e) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  }
  static Sum times_powers(const Sum& a, const std::byte* exponents) {
    return {_mm256_mul_ps(a.low, powers(eight_integers(exponents))),
            _mm256_mul_ps(a.high, powers(eight_integers(exponents + 8)))};
  }
  static Int broadcast(std::int32_t v) { return {_mm256_set1_epi32(v), _mm256_set1_epi32(v)}; }
  static Weight load_weight(const std::byte* p) {
    const auto* v = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
  }
  static __m256i nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
  static Weight low(const Weight& w) { return {nibbles(w.low), nibbles(w.high)}; }
  static Weight high(const Weight& w) {
    return {nibbles(_mm256_srli_epi16(w.low, 4)), nibbles(_mm256_srli_epi16(w.high, 4))};
  }
  template <int kBits>
  static X load_x(const std::byte* p) {
    std::int32_t four;
    std::memcpy(&four, p, sizeof four);
    const __m256i x = _mm256_set1_epi32(four);
    if constexpr (kBits == 4) return {x, x};
    return {_mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), _mm256_srai_epi16(x, 8)};
  }
  template <int kBits>
  static __m256i product(__m256i w, const X& x) {
    if constexpr (kBits == 4) return _mm256_madd_epi16(_mm256_maddubs_epi16(w, x.even), _mm256_set1_epi16(1));
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(0xff)), x.even);
    return _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_srli_epi16(w, 8), x.odd));
  }
  template <int kBits>
  static void dot(Int& sum, const Weight& w, const X& x) {
    sum.low = _mm256_add_epi32(sum.low, product<kBits>(w.low, x));
    sum.high = _mm256_add_epi32(sum.high, product<kBits>(w.high, x));
  }
  static __m256i scale_bits(const std::byte* eight) {
    return _mm256_castps_si256(_mm256_cvtepi32_ps(eight_integers(eight)));
  }
  static Int load_scales(const std::byte* p) { return {scale_bits(p), scale_bits(p + 8)}; }
  static void accumulate(Sum& sum, const Int& dot, const Int& scales, std::int32_t exponent) {
    const __m256i k = _mm256_set1_epi32(exponent);
    const __m256 low = _mm256_castsi256_ps(_mm256_add_epi32(scales.low, k));
    const __m256 high = _mm256_castsi256_ps(_mm256_add_epi32(scales.high, k));
    sum.low = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot.low), low, sum.low);
    sum.high = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot.high), high, sum.high);
  }
  static Sum load_bias(const std::byte* p, std::int64_t n, DType dtype) {
    if (dtype == DType::bf16) {
      std::uint16_t bias[16] = {};
      std::memcpy(bias, p, static_cast<std::size_t>(n) * sizeof(bias[0]));
      return {avx2::load_bf16(bias), avx2::load_bf16(bias + 8)};
    }
    float bias[16] = {};
    std::memcpy(bias, p, static_cast<std::size_t>(n) * sizeof(bias[0]));
    return load(bias);
  }
  static void store_y(std::byte* p, const Sum& v, std::int64_t n, DType dtype) {
    if (dtype == DType::bf16) {
      std::uint16_t y[16];
      avx2::store_bf16(y, v.low);
      avx2::store_bf16(y + 8, v.high);
      std::memcpy(p, y, static_cast<std::size_t>(n) * sizeof(y[0]));
    } else {
      float y[16];
      store(y, v);
      std::memcpy(p, y, static_cast<std::size_t>(n) * sizeof(y[0]));
    }
  }
  static __m256 load_numbers(const std::byte* group, DType dtype, std::int64_t i) {
    return dtype == DType::bf16 ? avx2::load_bf16(group + i * 2)
                                : _mm256_loadu_ps(reinterpret_cast<const float*>(group) + i);
  }
  static std::uint32_t largest_magnitude(const std::byte* group, DType dtype, std::int64_t size) {
    __m256i largest = _mm256_setzero_si256();
    for (std::int64_t i = 0; i < size; i += 8) {
      const __m256i bits = _mm256_castps_si256(load_numbers(group, dtype, i));
      largest = _mm256_max_epu32(largest, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
    }
    __m128i half = _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xb1));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(half));
  }
  static bool round_group(const std::byte* group, DType dtype, std::int64_t size, int offset, std::byte* out) {
    const std::uint32_t largest = largest_magnitude(group, dtype, size);
    if (!activations_round(largest)) return round_group_ref(group, dtype, size, offset, out);
    const std::int32_t k = activation_exponent(largest);
    const __m256 inverse = _mm256_set1_ps(power_of_two(-k));
    std::int32_t correction = 0;
    for (std::int64_t i = 0; i < size; i += 8) {
      alignas(32) std::int32_t q[8];
      _mm256_store_si256(reinterpret_cast<__m256i*>(q),
                         _mm256_cvtps_epi32(_mm256_mul_ps(load_numbers(group, dtype, i), inverse)));
      for (int j = 0; j < 8; ++j) {
        out[i + j] = static_cast<std::byte>(q[j]);
        correction -= offset * q[j];
      }
    }
    end_group(out + size, k, correction);
    return true;
  }
};

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
constexpr QuantBlockTable kQuantBlocksAvx2 = make_quant_table<Avx2>();
}  // namespace cajal::cpu
