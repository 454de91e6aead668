#pragma once
// The vector kernels of the row-wise ops, one set an instruction set, for the lists.
#include "backends/cpu/kernels/elementwise.h"

#define CAJAL_ROW_KERNELS                                       \
  void rms_norm(const RmsNormArgs& a, ThreadPool& pool);        \
  void add(const AddArgs& a, ThreadPool& pool);                 \
  void add_rms_norm(const AddRmsNormArgs& a, ThreadPool& pool); \
  void silu_mul(const SiluMulArgs& a, ThreadPool& pool);        \
  void rope(const RopeArgs& a, ThreadPool& pool);               \
  void qk_norm_rope_kv_write(const QkNormRopeKvWriteArgs& a, ThreadPool& pool);

namespace cajal::cpu {
namespace avx2 {
CAJAL_ROW_KERNELS
}
namespace avx512 {
CAJAL_ROW_KERNELS
}
namespace avx512_bf16 {
CAJAL_ROW_KERNELS
}

}  // namespace cajal::cpu

#undef CAJAL_ROW_KERNELS
