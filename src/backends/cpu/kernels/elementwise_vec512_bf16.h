#pragma once
// V of elementwise_vec512.h with the processor's own rounding to bf16. Include it before the region that uses it.
#include "backends/cpu/kernels/elementwise_vec512.h"
#include "backends/cpu/kernels/vec_avx512_bf16.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_BF16)
namespace cajal::cpu::avx512_bf16 {

struct V : avx512::V {
  using avx512::V::round;
  using avx512::V::store;

  static void store(std::uint16_t* p, F v) { store_bf16(p, v); }
  static void store(std::uint16_t* p, F v, std::int64_t n) { store_bf16(p, v, avx512::first_lanes(n)); }
  static F round(Bf16, F v) { return avx512::widen_bf16(narrow_bf16(v)); }
};

}  // namespace cajal::cpu::avx512_bf16
CAJAL_TARGET_REGION_END
