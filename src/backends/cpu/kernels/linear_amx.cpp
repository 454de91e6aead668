// Products of bf16 matrices by AMX's tiles.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "backends/cpu/kernels/fetch_output.h"
#include "backends/cpu/kernels/tile_product.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AMX)
#include "backends/cpu/kernels/amx.h"
#include "backends/cpu/kernels/tile_product_impl.h"
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
constexpr BlockTable kBlocksBf16Amx = make_tiles_table<HardwareTiles, kBlocksBf16Avx512Bf16>();
constexpr BlockTable kBlocksLosslessAmx = [] {
  BlockTable table{};
  table.dtype = DType::bf16;
  table.best_rows = kBlocksBf16Amx.best_rows;
  table.max_rows = 0;  // also for one row: tiles are unpacked first
  table.unpacked = &kBlocksBf16Amx;
  return table;
}();
}  // namespace cajal::cpu
