#pragma once
// ops::Router, ops::MoeExperts, ops::ExpertOutputs and ops::CombineExperts.
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
  // Whose the rows are, where experts have a capacity; those of a sequence stand together.
  const std::int32_t* seq_indices = nullptr;
  double capacity_factor = 0;
};
using RouterKernel = Kernel<RouterShape, RouterArgs>;
std::span<const RouterKernel> router_kernels();

// ops::MoeExperts, and with `partial` ops::ExpertOutputs.
struct MoeShape {
  DType dtype;
  Storage gate_up_storage, down_storage;
  std::int64_t rows;  // at most
  std::int64_t num_experts, hidden_size, intermediate_size;
  int top_k, sum_parts;  // sum_parts: of the down projection
  bool partial = false;
};
struct MoeArgs {
  const std::byte* x;        // [rows, hidden_size]
  const std::byte* weights;  // [rows, top_k] of dtype; null if partial
  const std::int32_t* ids;   // [rows, top_k]
  const std::byte* gate_up;  // [num_experts, 2 * intermediate_size, hidden_size] as stored
  const std::byte* down;     // [num_experts, hidden_size, intermediate_size] as stored
  std::byte* y;              // [rows, hidden_size]; if partial f32[rows, top_k, hidden_size]
  std::byte* scratch;
  std::int64_t rows, num_experts, hidden_size, intermediate_size;  // num_experts: that are here
  std::int32_t top_k, sum_parts;
  DType dtype;
  Packed packed;             // tile of both weights; {1,1} if plain
  Quantized quantized = {};  // of both, if they are
  bool lossless = false;     // both are
  bool read_once = false;    // as in LinearArgs
  // The ids that are here are first_expert .. first_expert + num_experts - 1. Where some may be elsewhere, y is partial:
  // each choice's output by itself, as its sum is; zeros for what is elsewhere.
  std::int32_t first_expert = 0;
  bool partial = false;

  // The place of a choice's expert among those here; -1: elsewhere, or dropped by the router.
  std::int32_t expert_of(std::int64_t pair) const {
    const std::int32_t e = ids[pair] - first_expert;
    CAJAL_CHECK(ids[pair] >= -1 && (partial || e < num_experts), "expert ", ids[pair]);
    return ids[pair] >= 0 && e >= 0 && e < num_experts ? e : -1;
  }
  DType output_dtype() const { return partial ? DType::f32 : dtype; }  // of the down projection
};
using MoeKernel = Kernel<MoeShape, MoeArgs>;
std::span<const MoeKernel> moe_kernels();

struct CombineShape {
  DType dtype;
  std::int64_t hidden_size;
  int top_k;
};
struct CombineArgs {
  const std::byte* outputs;  // f32[rows, top_k, hidden_size]
  const std::byte* weights;  // [rows, top_k] of dtype
  std::byte* y;              // [rows, hidden_size]
  std::int64_t rows, hidden_size;
  std::int32_t top_k;
  DType dtype;
};
using CombineKernel = Kernel<CombineShape, CombineArgs>;
std::span<const CombineKernel> combine_kernels();

}  // namespace cajal::cpu
