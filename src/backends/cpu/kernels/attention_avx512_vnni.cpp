// Attention on AVX-512 over a cache in 8 bits, with vpdpbusd, which adds the products of four unsigned and four signed bytes.
#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/elementwise_vec512.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_VNNI)
#include "backends/cpu/kernels/attention_tile.h"

namespace cajal::cpu::avx512_vnni {
namespace {

using avx512::V;

// Keys become unsigned by adding 128, which the sum of the query's integers takes back.
template <class T>
struct Dot : flash::OnePosition<V> {
  using Type = T;
  using Raw = std::int8_t;
  using Sum = __m512i;
  using Keys = __m512i;
  static constexpr int kRows = 6, kVectors = 4;

  static void begin() {}
  static void end() {}
  static Sum begin_sum(std::int32_t q_sum) { return _mm512_set1_epi32(-128 * q_sum); }
  static Keys keys(const std::int8_t* k) {
    return _mm512_xor_si512(_mm512_loadu_si512(k), _mm512_set1_epi8(static_cast<char>(0x80)));
  }
  static __m512i query(const std::int8_t* q) {
    int four;
    __builtin_memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static Sum step(__m512i q, Keys k, Sum sum) {
    // Not the intrinsic: GCC 12 copies every sum twice a step around it, and runs out of registers.
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(k), "v"(q));
    return sum;
  }
  static __m512 to_float(Sum sum) { return _mm512_cvtepi32_ps(sum); }
};

constexpr FlashParts kBf16 = {flash::int8_chunk<V, Dot<Bf16>>, flash::merge<V>, flash::finish<V, Bf16>};
constexpr FlashParts kF32 = {flash::int8_chunk<V, Dot<F32>>, flash::merge<V>, flash::finish<V, F32>};

}  // namespace

void attention_int8(const AttentionArgs& a, ThreadPool& pool) {
  flash_attention(a, pool, a.dtype == DType::bf16 ? kBf16 : kF32);
}

}  // namespace cajal::cpu::avx512_vnni
CAJAL_TARGET_REGION_END
