// Attention on AVX-512 without bf16 products: those are made of their two halves.
#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/elementwise_vec512.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512)
#include "backends/cpu/kernels/attention_tile.h"

namespace cajal::cpu::avx512 {
namespace {

struct DotF32 : flash::OnePosition<V> {
  using Type = F32;
  using Raw = float;
  using Keys = __m512;
  static constexpr int kGroup = 1, kRows = 6, kVectors = 4;

  static void begin() {}
  static void end() {}
  static Keys keys(const float* k) { return _mm512_loadu_ps(k); }
  static Keys query(const float* q) { return _mm512_set1_ps(*q); }
  static __m512 step(Keys q, Keys k, __m512 sum) { return _mm512_fmadd_ps(q, k, sum); }
};

// vdpbf16ps: the product of the odd elements first, denormals taken and left as zeros.
struct DotBf16 : flash::TwoPositions<V> {
  using Type = Bf16;
  using Raw = std::uint16_t;
  using Keys = Bf16Pairs;
  static constexpr int kGroup = 2, kRows = 4, kVectors = 4;

  static Keys keys(const std::uint16_t* k) { return widen_pairs(_mm512_loadu_si512(k)); }
  static Keys query(const std::uint16_t* q) { return broadcast_pair(reinterpret_cast<const std::byte*>(q)); }
  static __m512 step(const Keys& q, const Keys& k, __m512 sum) {
    return _mm512_fmadd_ps(q.even, k.even, _mm512_fmadd_ps(q.odd, k.odd, sum));
  }
};

constexpr FlashParts kBf16 = {flash::chunk<V, DotBf16>, flash::merge<V>, flash::finish<V, Bf16>};
constexpr FlashParts kF32 = {flash::chunk<V, DotF32>, flash::merge<V>, flash::finish<V, F32>};

}  // namespace

void attention_bf16(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kBf16); }
void attention_f32(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kF32); }

}  // namespace cajal::cpu::avx512
CAJAL_TARGET_REGION_END
