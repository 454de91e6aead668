// The row-wise kernels, compiled for one instruction set; elementwise_rows.h holds what they do.
#include "backends/cpu/kernels/cache_rows.h"
#include "backends/cpu/kernels/elementwise_isa.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/elementwise_vec256.h"
#include "backends/cpu/kernels/kv_int8.h"
#include "backends/cpu/kernels/kv_write_layout.h"
#include "base/thread_pool.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
#include "backends/cpu/kernels/elementwise_rows.h"

namespace cajal::cpu::avx2 {
#include "backends/cpu/kernels/elementwise_kernels.h"
}  // namespace cajal::cpu::avx2
CAJAL_TARGET_REGION_END
