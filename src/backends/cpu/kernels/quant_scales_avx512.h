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
  const __m512 scales = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  constexpr int kLargerMagnitude = 3, kSignOfFirst = 0 << 2;
  return _mm512_castps_si512(_mm512_range_ps(scales, _mm512_set1_ps(kSmallestScale), kLargerMagnitude | kSignOfFirst));
}

}  // namespace cajal::cpu::avx512
CAJAL_TARGET_REGION_END
