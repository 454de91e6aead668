// Blocks for any x86-64. Without an instruction for it, a fused multiply-add is made of double arithmetic: the product of
// two floats is exact there, and their sum with a third, rounded to odd, rounds to float as the exact sum would.
#include <immintrin.h>

#include <cstring>

#include "backends/cpu/kernels/linear_blocks.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/unroll.h"

#include "backends/cpu/kernels/linear_blocks_impl.h"

namespace cajal::cpu {
namespace {

// x * w + c, inexact results made odd: a double that lies between two floats then never looks like their middle.
inline __m128d fma_to_odd(__m128d x, __m128d w, __m128d c) {
  const __m128d product = _mm_mul_pd(x, w), sum = _mm_add_pd(product, c);
  // What the sum lost, exactly (Knuth's two-sum).
  const __m128d c_part = _mm_sub_pd(sum, product);
  const __m128d lost = _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, c_part)), _mm_sub_pd(c, c_part));
  const __m128d zero = _mm_setzero_pd();  // a NaN, of infinities, is neither above nor below
  const __m128i inexact = _mm_castpd_si128(_mm_or_pd(_mm_cmplt_pd(lost, zero), _mm_cmpgt_pd(lost, zero)));
  // An even sum moves by one unit of its last place to where the exact one lies.
  const __m128i bits = _mm_castpd_si128(sum);
  const __m128i move = _mm_and_si128(_mm_andnot_si128(bits, _mm_set1_epi64x(1)), inexact);
  const __m128i inwards = _mm_and_si128(move, _mm_srli_epi64(_mm_xor_si128(_mm_castpd_si128(lost), bits), 63));
  return _mm_castsi128_pd(_mm_sub_epi64(_mm_add_epi64(bits, move), _mm_add_epi64(inwards, inwards)));
}

inline __m128 fma_by_double(__m128d x, __m128 w, __m128 c) {
  const __m128d low = fma_to_odd(x, _mm_cvtps_pd(w), _mm_cvtps_pd(c));
  const __m128d high = fma_to_odd(x, _mm_cvtps_pd(_mm_movehl_ps(w, w)), _mm_cvtps_pd(_mm_movehl_ps(c, c)));
  return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}

struct Sse2F32 {
  static constexpr DType kDType = DType::f32;
  static constexpr int kMaxVectors = 2;
  struct Sum {
    __m128 v[4];
  };
  using X = __m128d;
  using Weight = Sum;
  static Sum zero() { return {}; }
  static Sum load(const float* p) {
    return {{_mm_loadu_ps(p), _mm_loadu_ps(p + 4), _mm_loadu_ps(p + 8), _mm_loadu_ps(p + 12)}};
  }
  static void store(float* p, const Sum& sum) {
    CAJAL_UNROLL for (int i = 0; i < 4; ++i) _mm_storeu_ps(p + 4 * i, sum.v[i]);
  }
  static Sum add(Sum a, const Sum& b) {
    CAJAL_UNROLL for (int i = 0; i < 4; ++i) a.v[i] = _mm_add_ps(a.v[i], b.v[i]);
    return a;
  }
  static Weight load_weight(const std::byte* p) { return load(reinterpret_cast<const float*>(p)); }
  static X load_x(const std::byte* p) { return _mm_set1_pd(static_cast<double>(load_element(p, 0, DType::f32))); }
  static void multiply_add(Sum& sum, X x, const Weight& w) {
    CAJAL_UNROLL for (int i = 0; i < 4; ++i) sum.v[i] = fma_by_double(x, w.v[i], sum.v[i]);
  }
  static Sum load_elements(const std::byte* p, std::int64_t n, DType dtype) {
    float values[kTileOutputs] = {};
    for (std::int64_t i = 0; i < n; ++i) values[i] = load_element(p, i, dtype);
    return load(values);
  }
  static void store_elements(std::byte* p, const Sum& sum, std::int64_t n, DType dtype) {
    float values[kTileOutputs];
    store(values, sum);
    for (std::int64_t i = 0; i < n; ++i) store_element(p, i, dtype, values[i]);
  }
  static Sum load_bias(const std::byte* p, std::int64_t n) { return load_elements(p, n, kDType); }
  static void store_y(std::byte* p, const Sum& sum, std::int64_t n) { store_elements(p, sum, n, kDType); }
};

struct Sse2Bf16 : Sse2F32 {
  static constexpr DType kDType = DType::bf16;
  struct X {
    __m128d odd, even;
  };
  static X load_x(const std::byte* p) {
    return {_mm_set1_pd(static_cast<double>(load_element(p, 1, DType::bf16))),
            _mm_set1_pd(static_cast<double>(load_element(p, 0, DType::bf16)))};
  }
  static void multiply_add(Sum& sum, const X& x, const Weight& w) {
    CAJAL_UNROLL for (int i = 0; i < 4; ++i) {
      const __m128i pairs = _mm_castps_si128(w.v[i]);
      const __m128 odd = _mm_castsi128_ps(_mm_and_si128(pairs, _mm_set1_epi32(static_cast<int>(0xffff0000u))));
      const __m128 even = _mm_castsi128_ps(_mm_slli_epi32(pairs, 16));
      sum.v[i] = fma_by_double(x.even, even, fma_by_double(x.odd, odd, sum.v[i]));
    }
  }
  static Sum load_bias(const std::byte* p, std::int64_t n) { return load_elements(p, n, kDType); }
  static void store_y(std::byte* p, const Sum& sum, std::int64_t n) { store_elements(p, sum, n, kDType); }
};

}  // namespace

constexpr BlockTable kBlocksF32Sse2 = make_table<Sse2F32>(2);
constexpr BlockTable kBlocksBf16Sse2 = make_table<Sse2Bf16>(2);

}  // namespace cajal::cpu
