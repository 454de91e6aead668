#include "backends/cpu/kernels/attention.h"

#include "backends/cpu/kernels/attention_kernels.h"
#include "backends/cpu/kernels/attention_order.h"
#include "backends/cpu/kernels/elementwise_scalar.h"

namespace cajal::cpu {
namespace {

template <DType dtype>
bool flash(const AttentionShape& s) {
  return s.dtype == dtype && flash_accepts(s);
}
bool any_activation(const AttentionShape& s) { return is_activation(s.dtype) && s.head_dim <= kMaxHeadDim; }

constexpr AttentionKernel kKernels[] = {
    {"attention_bf16_avx512_bf16", "attention", kAvx512Bf16, flash<DType::bf16>, avx512_bf16::attention_bf16,
     flash_scratch_bytes},
    {"attention_bf16_avx512", "attention", kAvx512, flash<DType::bf16>, avx512::attention_bf16, flash_scratch_bytes},
    {"attention_f32_avx512", "attention", kAvx512, flash<DType::f32>, avx512::attention_f32, flash_scratch_bytes},
    {"attention_bf16_avx2", "attention", kAvx2, flash<DType::bf16>, avx2::attention_bf16, flash_scratch_bytes},
    {"attention_f32_avx2", "attention", kAvx2, flash<DType::f32>, avx2::attention_f32, flash_scratch_bytes},
    {"attention_ref", "attention", kBaseline, any_activation, attention_reference},
};

}  // namespace

std::span<const AttentionKernel> attention_kernels() { return kKernels; }

Packed flash_k_storage(DType dtype) { return {static_cast<int>(kPiece), dtype == DType::bf16 ? 2 : 1}; }

bool flash_accepts(const AttentionShape& s) {
  return is_activation(s.dtype) && s.block_size == kPiece && s.head_dim % 2 == 0 && s.head_dim <= kMaxHeadDim &&
         s.k_storage == Storage{flash_k_storage(s.dtype)} && s.v_storage == Storage{Plain{}};
}

KvStorage kv_cache_storage(DType dtype, std::int64_t head_dim, std::uint32_t isa) {
  if (!is_activation(dtype) || !(isa & kAvx2) || head_dim % 2 != 0 || head_dim > kMaxHeadDim) return {Plain{}, Plain{}};
  return {flash_k_storage(dtype), Plain{}};
}

}  // namespace cajal::cpu
