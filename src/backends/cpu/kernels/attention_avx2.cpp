// Attention on AVX2.
#include "backends/cpu/kernels/attention_kernels.h"
#include "backends/cpu/kernels/attention_order.h"
#include "backends/cpu/kernels/elementwise_vec256.h"
#include "backends/cpu/kernels/kv_write_layout.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
#include "backends/cpu/kernels/attention_tile.h"

namespace cajal::cpu::avx2 {
namespace {

struct DotF32 {
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
struct DotBf16 {
  using Type = Bf16;
  using Raw = std::uint16_t;
  struct Keys {
    __m256 even, odd;
  };
  static constexpr int kGroup = 2, kRows = 4, kVectors = 2;
  static constexpr unsigned kFlush = _MM_FLUSH_ZERO_ON | 0x40;  // and denormals are zeros

  static void begin() {
    _mm_setcsr(_mm_getcsr() | kFlush);
    asm volatile("" ::: "memory");  // no load of a score's operands moves before it
  }
  static void end() {
    asm volatile("" ::: "memory");
    _mm_setcsr(_mm_getcsr() & ~kFlush);
  }
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

constexpr FlashParts kBf16 = {flash::chunk<V, DotBf16>, flash::merge<V>, flash::finish<V, Bf16>};
constexpr FlashParts kF32 = {flash::chunk<V, DotF32>, flash::merge<V>, flash::finish<V, F32>};

}  // namespace

void attention_bf16(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kBf16); }
void attention_f32(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kF32); }

}  // namespace cajal::cpu::avx2
CAJAL_TARGET_REGION_END
