#pragma once
// What attention_decode and attention_short read: the paged cache, by tensor copies, and the heads that this step adds.
#include "backends/cuda/kernels/attention_block.cuh"
#include "backends/cuda/kernels/attention_decode.h"
#include "backends/cuda/kernels/heads.cuh"
#include "backends/cuda/kernels/tensor_map.h"

namespace cajal::cuda {

// Maps of blocks of 64 positions, 64 columns at a time. False where the driver has none.
template <int D>
bool make_cache_maps(const AttentionArgs& a, CUtensorMap& k, CUtensorMap& v) {
  constexpr std::int64_t kMostRows = std::int64_t{1} << 31;  // of a cache; no more than it has is ever asked for
  constexpr std::int64_t d = D;
  return make_tensor_map(k, a.k_cache, {{d, 0, 64}, {kMostRows, d * 2, kBlock}}, CU_TENSOR_MAP_SWIZZLE_128B) &&
         make_tensor_map(v, a.v_cache, {{d, 0, 64}, {kMostRows, d * 2, kBlock}}, CU_TENSOR_MAP_SWIZZLE_128B);
}

template <int D>
__device__ bf16* cache_row(void* cache, int slot, int kv_head, int kv_heads) {
  return static_cast<bf16*>(cache) +
         ((static_cast<std::int64_t>(slot / kBlock) * kv_heads + kv_head) * kBlock + slot % kBlock) * D;
}

// A head of one of this step's rows in qkv, and the row's cosines and sines, as heads.cuh has them.
template <int D>
__device__ HalvesOfHead head_of_step(const AttentionDecodeArgs& args, int row, int head, int sub) {
  const int heads = args.attention.num_heads + 2 * args.attention.num_kv_heads;
  return load_head<D>(static_cast<const bf16*>(args.heads.qkv) + (static_cast<std::int64_t>(row) * heads + head) * D,
                      sub);
}
template <int D>
__device__ HalvesOfHead angles_of_step(const AttentionDecodeArgs& args, int row, int sub) {
  return load_head<D>(static_cast<const bf16*>(args.heads.table) + static_cast<std::int64_t>(row) * D, sub);
}
__device__ inline void store_shared(std::uint32_t to, const uint4& v) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// copy_tensor of what leaves the cache first: weights that others have asked for, and results of pieces, are to stay.
__device__ inline void copy_read_once(std::uint32_t to, const CUtensorMap* map, int x, int y, std::uint64_t* bar) {
  asm volatile(
      "{\n.reg .b64 policy;\ncreatepolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], policy;\n}" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(shared_address(bar))
      : "memory");
}

}  // namespace cajal::cuda
