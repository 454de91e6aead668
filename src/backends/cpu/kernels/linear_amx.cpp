// Products of bf16 matrices by AMX's tiles.
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "backends/cpu/kernels/fetch_output.h"
#include "backends/cpu/kernels/sum_parts.h"
#include "backends/cpu/kernels/tile_product.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AMX)
#include "backends/cpu/kernels/amx.h"
#include "backends/cpu/kernels/tile_product_impl.h"
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
constexpr BlockTable kBlocksBf16Amx = [] {
  BlockTable table = make_tiles_table<HardwareTiles, kBlocksBf16Avx512Bf16>();
  table.few = &kBlocksBf16TileOrder;
  return table;
}();
}  // namespace cajal::cpu
