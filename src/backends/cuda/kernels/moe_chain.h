#pragma once
// moe_chain: what follows attention in a layer with experts, for a few rows, in one launch: o and the residual, norm, router and
// choice, the experts and their weighted sum, the residual, and norm, q, k and v of the next layer. The numerics are those of
// linear.h, elementwise.h and moe.h. docs/decisions/0016-mixtures-on-the-gpu.md says how it is built.
#include "backends/cuda/kernels/rows.h"

namespace cajal::cuda {

constexpr std::int32_t kMostMoeChainRows = 4;

// Weights are Packed{8, 8}; everything is bf16.
struct MoeChainArgs {
  Rows rows;
  std::int32_t hidden, attention_columns, num_experts, intermediate, top_k;
  std::int32_t qkv_columns;  // 0 where no layer follows
  bool norm_topk_prob;
  float epsilon, next_epsilon;
  const void *attention, *x;  // [rows, attention_columns], [rows, hidden]
  const void *o, *norm, *router, *gate_up, *down, *next_norm, *qkv;
  void *sum, *qkv_out;                   // [rows, hidden], [rows, qkv_columns]
  void* weights;                         // [rows, top_k], or null
  std::int32_t* ids;                     // likewise
  const std::int32_t* serial;            // of the step
  std::int32_t ordinal, chains;          // which of the step's launches of this kind it is, and of how many
  std::byte* exchange;                   // of all launches; moe_chain_exchange_bytes(), all ones before the first step
  unsigned long long* stamps = nullptr;  // [grid, kMoeChainStamps] clocks, for benches
};
constexpr int kMoeChainStamps = 12;

// Looks at sizes alone; needs no device.
bool moe_chain_accepts(const MoeChainArgs& args);
std::size_t moe_chain_exchange_bytes(const MoeChainArgs& args);
void moe_chain(const MoeChainArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
