#pragma once
// Rounding to bf16 with the bits of vec_avx512.h, in one instruction. Only for functions inside a CAJAL_AVX512_BF16 region;
// include it before the region.
#include "backends/cpu/kernels/vec_avx512.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_BF16)
namespace cajal::cpu::avx512_bf16 {

// The instruction takes denormals for zeros, whatever the control register says; all others it rounds as float_to_bf16() does.
inline __m256i narrow_bf16(avx512::Vec v) {
  constexpr int kDenormal = 0x20;
  if (_mm512_fpclass_ps_mask(v, kDenormal) != 0) [[unlikely]]
    return avx512::narrow_bf16(v);
  return (__m256i)_mm512_cvtneps_pbh(v);
}

inline void store_bf16(void* p, avx512::Vec v) { _mm256_storeu_si256(static_cast<__m256i*>(p), narrow_bf16(v)); }
inline void store_bf16(void* p, avx512::Vec v, avx512::Mask m) { _mm256_mask_storeu_epi16(p, m, narrow_bf16(v)); }

}  // namespace cajal::cpu::avx512_bf16
CAJAL_TARGET_REGION_END
