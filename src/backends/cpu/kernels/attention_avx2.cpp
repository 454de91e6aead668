// Attention on AVX2.
#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/elementwise_vec256.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
#include "backends/cpu/kernels/attention_tile.h"

namespace cajal::cpu::avx2 {
namespace {

struct DotF32 : flash::OnePosition<V> {
  using Type = F32;
  using Raw = float;
  using Keys = __m256;
  static constexpr int kGroup = 1, kRows = 6, kVectors = 2;

  static void begin() {}
  static void end() {}
  static Keys keys(const float* k) { return _mm256_loadu_ps(k); }
  static Keys query(const float* q) { return _mm256_set1_ps(*q); }
  static __m256 step(Keys q, Keys k, __m256 sum) { return _mm256_fmadd_ps(q, k, sum); }
};

// As vdpbf16ps: the product of the odd elements first, denormals taken and left as zeros.
struct DotBf16 : flash::TwoPositions<V> {
  using Type = Bf16;
  using Raw = std::uint16_t;
  struct Keys {
    __m256 even, odd;
  };
  static constexpr int kGroup = 2, kRows = 4, kVectors = 2;
  static Keys halves(__m256i pairs) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
  static Keys keys(const std::uint16_t* k) { return halves(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(k))); }
  static Keys query(const std::uint16_t* q) {
    int pair;
    __builtin_memcpy(&pair, q, sizeof pair);
    return halves(_mm256_set1_epi32(pair));
  }
  static __m256 step(const Keys& q, const Keys& k, __m256 sum) {
    return _mm256_fmadd_ps(q.even, k.even, _mm256_fmadd_ps(q.odd, k.odd, sum));
  }
};

// A cache in 8 bits. The unsigned operand is the key's magnitude, and the query takes its sign: pairs of products of
// -127..127 fit 16 bits.
template <class T>
struct DotInt8 : flash::OnePosition<V> {
  using Type = T;
  using Raw = std::int8_t;
  using Sum = __m256i;
  struct Keys {
    __m256i magnitudes, signs;
  };
  static constexpr int kRows = 4, kVectors = 2;

  static void begin() {}
  static void end() {}
  static Sum begin_sum(std::int32_t) { return _mm256_setzero_si256(); }
  static Keys keys(const std::int8_t* k) {
    const __m256i signs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(k));
    return {_mm256_abs_epi8(signs), signs};
  }
  static __m256i query(const std::int8_t* q) {
    int four;
    __builtin_memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
  }
  static Sum step(__m256i q, const Keys& k, Sum sum) {
    const __m256i pairs = _mm256_maddubs_epi16(k.magnitudes, _mm256_sign_epi8(q, k.signs));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static __m256 to_float(Sum sum) { return _mm256_cvtepi32_ps(sum); }
};

constexpr FlashParts kInt8Bf16 = {flash::int8_chunk<V, DotInt8<Bf16>>, flash::merge<V>, flash::finish<V, Bf16>};
constexpr FlashParts kInt8F32 = {flash::int8_chunk<V, DotInt8<F32>>, flash::merge<V>, flash::finish<V, F32>};
constexpr FlashParts kBf16 = {flash::chunk<V, DotBf16>, flash::merge<V>, flash::finish<V, Bf16>};
constexpr FlashParts kF32 = {flash::chunk<V, DotF32>, flash::merge<V>, flash::finish<V, F32>};

}  // namespace

void attention_bf16(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kBf16); }
void attention_f32(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kF32); }
void attention_int8(const AttentionArgs& a, ThreadPool& pool) {
  flash_attention(a, pool, a.dtype == DType::bf16 ? kInt8Bf16 : kInt8F32);
}

}  // namespace cajal::cpu::avx2
CAJAL_TARGET_REGION_END
