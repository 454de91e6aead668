#pragma once
// ops::Router and ops::MoeExperts.
#include "backends/cpu/kernels/kernel.h"

namespace cajal::cpu {

struct RouterShape {
  DType dtype;
  std::int64_t num_experts;
  int top_k;
};
struct RouterArgs {
  const std::byte* logits;  // [rows, num_experts]
  std::byte* weights;       // [rows, top_k] of dtype
  std::int32_t* ids;        // [rows, top_k]
  std::int64_t rows, num_experts;
  std::int32_t top_k;
  DType dtype;
  bool norm_topk_prob;
};
using RouterKernel = Kernel<RouterShape, RouterArgs>;
std::span<const RouterKernel> router_kernels();

struct MoeShape {
  DType dtype;
  Storage gate_up_storage, down_storage;
  std::int64_t rows;  // at most
  std::int64_t num_experts, hidden_size, intermediate_size;
  int top_k, sum_parts;  // sum_parts: of the down projection
};
struct MoeArgs {
  const std::byte* x;        // [rows, hidden_size]
  const std::byte* weights;  // [rows, top_k] of dtype
  const std::int32_t* ids;   // [rows, top_k]
  const std::byte* gate_up;  // [num_experts, 2 * intermediate_size, hidden_size] as stored
  const std::byte* down;     // [num_experts, hidden_size, intermediate_size] as stored
  std::byte* y;              // [rows, hidden_size]
  std::byte* scratch;
  std::int64_t rows, num_experts, hidden_size, intermediate_size;
  std::int32_t top_k, sum_parts;
  DType dtype;
  Packed packed;             // tile of both weights; {1,1} if plain
  Quantized quantized = {};  // of both, if they are
};
using MoeKernel = Kernel<MoeShape, MoeArgs>;
std::span<const MoeKernel> moe_kernels();

}  // namespace cajal::cpu
