// Blocks for AVX-512 without its bf16 instructions: f32, and bf16 widened on the way.
#include <immintrin.h>

#include <cstring>

#include "backends/cpu/kernels/linear_blocks.h"
#include "backends/cpu/kernels/vec_avx512.h"
#include "backends/cpu/unroll.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512)
#include "backends/cpu/kernels/linear_blocks_impl.h"

namespace cajal::cpu {
namespace {

struct Avx512F32 {
  static constexpr DType kDType = DType::f32;
  static constexpr int kMaxVectors = 24;
  using Sum = __m512;
  using X = __m512;
  using Weight = __m512;
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Sum v) { _mm512_storeu_ps(p, v); }
  static Sum add(Sum a, Sum b) { return _mm512_add_ps(a, b); }
  static Weight load_weight(const std::byte* p) { return _mm512_loadu_ps(p); }
  static X load_x(const std::byte* p) {
    float x;
    std::memcpy(&x, p, sizeof x);
    return _mm512_set1_ps(x);
  }
  static void multiply_add(Sum& sum, X x, Weight w) { sum = _mm512_fmadd_ps(x, w, sum); }
  static Sum load_bias(const std::byte* p, std::int64_t n) { return _mm512_maskz_loadu_ps(avx512::first_lanes(n), p); }
  static void store_y(std::byte* p, Sum v, std::int64_t n) { _mm512_mask_storeu_ps(p, avx512::first_lanes(n), v); }
};

// A group as two vectors: its odd and its even column.
struct Avx512Bf16 : Avx512F32 {
  static constexpr DType kDType = DType::bf16;
  static constexpr int kMaxVectors = 18;
  using X = avx512::Bf16Pairs;
  using Weight = avx512::Bf16Pairs;
  static Weight load_weight(const std::byte* p) { return avx512::widen_pairs(_mm512_loadu_si512(p)); }
  static X load_x(const std::byte* p) { return avx512::broadcast_pair(p); }
  static void multiply_add(Sum& sum, const X& x, const Weight& w) {
    sum = _mm512_fmadd_ps(x.even, w.even, _mm512_fmadd_ps(x.odd, w.odd, sum));
  }
  static Sum load_bias(const std::byte* p, std::int64_t n) { return avx512::load_bf16(p, avx512::first_lanes(n)); }
  static void store_y(std::byte* p, Sum v, std::int64_t n) { avx512::store_bf16(p, v, avx512::first_lanes(n)); }
};

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
constexpr BlockTable kBlocksF32Avx512 = make_table<Avx512F32>(6);
constexpr BlockTable kBlocksBf16Avx512 = make_table<Avx512Bf16>(6);
}  // namespace cajal::cpu
