#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backends/cpu/kernels/quant_scales_avx512.h"
#include "backends/cpu/kernels/quant_tiles.h"
#include "backends/cpu/kernels/sum_parts.h"
#include "backends/cpu/unroll.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AMX)
#include "backends/cpu/kernels/amx.h"
#include "backends/cpu/kernels/quant_tiles_impl.h"
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
// For fewer rows, unpacking takes longer than tiles save.
constexpr QuantTiles kQuantTilesAmx{
    .blocks = kQuantBlocksAvx512Vnni, .least_rows = {48, 16}, .multiply = multiply_quant_with<HardwareTiles>};
}  // namespace cajal::cpu
