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
bool is_int8(const Storage& storage) { return std::holds_alternative<Quantized>(storage); }
bool any_activation(const AttentionShape& s) {
  return is_activation(s.dtype) && s.head_dim <= kMaxHeadDim && is_int8(s.k_storage) == is_int8(s.v_storage);
}
bool bf16_cache(const AttentionShape& s) {
  return any_activation(s) && s.dtype == DType::bf16 && !is_int8(s.k_storage);
}
bool flash_int8(const AttentionShape& s) {
  return is_activation(s.dtype) && s.block_size == kPiece && s.head_dim % 4 == 0 && s.head_dim <= kMaxHeadDim &&
         s.num_heads / s.num_kv_heads <= kMaxInt8Vectors && is_int8(s.k_storage) && is_int8(s.v_storage) &&
         cache_tile(s.k_storage) == Packed{kPiece, 4} && cache_tile(s.v_storage) == Packed{1, 4};
}

constexpr const char* kChunksClass = "attention by chunks, in blocks of 32";

constexpr AttentionKernel kKernels[] = {
    {"attention_bf16_amx", kChunksClass, kAvx512Bf16 | kAmx, flash<DType::bf16>, amx::attention_bf16,
     amx::attention_scratch_bytes},
    {"attention_bf16_avx512_bf16", "attention", kAvx512Bf16, flash<DType::bf16>, avx512_bf16::attention_bf16,
     flash_scratch_bytes},
    {"attention_bf16_avx512", "attention", kAvx512, flash<DType::bf16>, avx512::attention_bf16, flash_scratch_bytes},
    {"attention_f32_avx512", "attention", kAvx512, flash<DType::f32>, avx512::attention_f32, flash_scratch_bytes},
    {"attention_bf16_avx2", "attention", kAvx2, flash<DType::bf16>, avx2::attention_bf16, flash_scratch_bytes},
    {"attention_f32_avx2", "attention", kAvx2, flash<DType::f32>, avx2::attention_f32, flash_scratch_bytes},
    {"attention_int8_avx512_vnni", "attention in 8 bits", kAvx512 | kAvx512Vnni, flash_int8,
     avx512_vnni::attention_int8, flash_scratch_bytes},
    {"attention_int8_avx2", "attention in 8 bits", kAvx2, flash_int8, avx2::attention_int8, flash_scratch_bytes},
    {"attention_ref", "attention", kBaseline, any_activation, attention_reference},
    // Never chosen: for tests of what machines with AMX do.
    {"attention_bf16_portable_tiles", kChunksClass, kAvx512Bf16, flash<DType::bf16>, portable_tiles::attention_bf16,
     portable_tiles::attention_scratch_bytes},
    {"attention_by_chunks_ref", kChunksClass, kBaseline, bf16_cache, attention_by_chunks_reference},
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

KvStorage quantized_kv_cache_storage(const Quantized& wanted, std::int64_t head_dim, std::uint32_t isa) {
  if (wanted.bits != 8 || wanted.group_size != head_dim || wanted.scale_dtype != DType::f32 || wanted.zero_points)
    fail(ErrorCode::unsupported, "a KV cache in ", wanted.bits, " bits by groups of ", wanted.group_size,
         " has no kernel on the CPU", remedy("8 bits with one f32 scale a vector do"));
  Quantized k = wanted, v = wanted;
  k.tile_rows = (isa & kAvx2) && head_dim % 4 == 0 && head_dim <= kMaxHeadDim ? static_cast<int>(kPiece) : 1;
  v.tile_rows = 1;
  return {k, v};
}

Packed cache_tile(const Storage& storage) {
  if (const auto* quantized = std::get_if<Quantized>(&storage)) return {quantized->tile_rows, 4};
  const auto* packed = std::get_if<Packed>(&storage);
  return packed ? *packed : Packed{1, 1};
}

}  // namespace cajal::cpu
