// Blocks for AVX2 with FMA: a tile is two vectors of eight outputs.
#include <immintrin.h>

#include <cstring>

#include "backends/cpu/kernels/linear_blocks.h"
#include "backends/cpu/kernels/vec_avx2.h"
#include "backends/cpu/unroll.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
#include "backends/cpu/kernels/linear_blocks_impl.h"

namespace cajal::cpu {
namespace {

struct Avx2F32 {
  static constexpr DType kDType = DType::f32;
  static constexpr int kMaxVectors = 6;
  struct Sum {
    __m256 low, high;
  };
  using X = __m256;
  using Weight = Sum;
  static Sum zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Sum load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store(float* p, const Sum& v) {
    _mm256_storeu_ps(p, v.low);
    _mm256_storeu_ps(p + 8, v.high);
  }
  static Sum add(const Sum& a, const Sum& b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static Weight load_weight(const std::byte* p) { return load(reinterpret_cast<const float*>(p)); }
  static X load_x(const std::byte* p) {
    float x;
    std::memcpy(&x, p, sizeof x);
    return _mm256_set1_ps(x);
  }
  static void multiply_add(Sum& sum, X x, const Weight& w) {
    sum.low = _mm256_fmadd_ps(x, w.low, sum.low);
    sum.high = _mm256_fmadd_ps(x, w.high, sum.high);
  }
  static Sum load_bias(const std::byte* p, std::int64_t n) {
    float bias[kTileOutputs] = {};
    std::memcpy(bias, p, static_cast<std::size_t>(n) * sizeof(float));
    return load(bias);
  }
  static void store_y(std::byte* p, const Sum& v, std::int64_t n) {
    if (n == kTileOutputs) return store(reinterpret_cast<float*>(p), v);
    float y[kTileOutputs];
    store(y, v);
    std::memcpy(p, y, static_cast<std::size_t>(n) * sizeof(float));
  }
};

// A group as vectors of its odd and of its even column.
struct Avx2Bf16 : Avx2F32 {
  static constexpr DType kDType = DType::bf16;
  struct Pair {
    __m256 odd, even;
  };
  struct Weight {
    __m256i low, high;
  };
  using X = Pair;
  static Pair widen(__m256i pairs) {
    return {_mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u)))),
            _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16))};
  }
  static Weight load_weight(const std::byte* p) {
    const auto* v = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
  }
  static X load_x(const std::byte* p) {
    std::int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return widen(_mm256_set1_epi32(pair));
  }
  static void multiply_add(Sum& sum, const X& x, const Weight& w) {
    const Pair low = widen(w.low), high = widen(w.high);
    sum.low = _mm256_fmadd_ps(x.even, low.even, _mm256_fmadd_ps(x.odd, low.odd, sum.low));
    sum.high = _mm256_fmadd_ps(x.even, high.even, _mm256_fmadd_ps(x.odd, high.odd, sum.high));
  }
  static Sum load_bias(const std::byte* p, std::int64_t n) {
    std::uint16_t bias[kTileOutputs] = {};
    std::memcpy(bias, p, static_cast<std::size_t>(n) * sizeof(bias[0]));
    return {avx2::load_bf16(bias), avx2::load_bf16(bias + 8)};
  }
  static void store_y(std::byte* p, const Sum& v, std::int64_t n) {
    std::uint16_t y[kTileOutputs];
    avx2::store_bf16(y, v.low);
    avx2::store_bf16(y + 8, v.high);
    std::memcpy(p, y, static_cast<std::size_t>(n) * sizeof(y[0]));
  }
};

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
constexpr BlockTable kBlocksF32Avx2 = make_table<Avx2F32>(6);
constexpr BlockTable kBlocksBf16Avx2 = make_table<Avx2Bf16>(6);
}  // namespace cajal::cpu
