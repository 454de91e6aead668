#pragma once
// The scales of quantised weights as AVX-512 kernels take them. Only for functions inside a CAJAL_AVX512 region or a stronger one;
// include it before the region.
#include <immintrin.h>

#include <cstddef>

#include "backends/cpu/isa.h"
#include "backends/cpu/kernels/quant_blocks.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512)
namespace cajal::cpu::avx512 {

// The scales of a group for 16 outputs, as bits of f32 to whose exponents those of activations can be added.
inline __m512i load_quant_scales(const std::byte* p) {
  const __m512i scales = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_castps_si512(_mm512_cvtepi32_ps(scales));
}

}  // namespace cajal::cpu::avx512
CAJAL_TARGET_REGION_END
