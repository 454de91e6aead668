#include <immintrin.h>

#include <cstring>

#include "backends/cpu/kernels/portable_tiles.h"
#include "backends/cpu/kernels/quant_scales_avx512.h"
#include "backends/cpu/kernels/quant_tiles.h"
#include "backends/cpu/kernels/sum_parts.h"
#include "backends/cpu/unroll.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_VNNI)
#include "backends/cpu/kernels/quant_tiles_impl.h"
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
constexpr QuantTiles kQuantTilesPortable{
    .blocks = kQuantBlocksAvx512Vnni, .least_rows = {4, 4}, .multiply = multiply_quant_with<PortableTiles>};
}  // namespace cajal::cpu
