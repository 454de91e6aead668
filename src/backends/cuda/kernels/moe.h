#pragma once
// Routing, and the mixture of experts around the grouped matrix products of linear.h: pairs (row, choice) are sorted by
// expert, multiplied tile by tile, and added up for each row in the order of its choices.
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/rows.h"

namespace cajal::cuda {

struct RouterArgs {
  const void* logits;
  void* weights;
  std::int32_t* ids;
  Rows rows;
  std::int32_t num_experts, top_k;
  bool norm_topk_prob;
  Element element;
};
constexpr std::int32_t kMaxExperts = 1024;
void router(const RouterArgs& args, cudaStream_t stream);

struct MoePlan {
  std::int32_t* x_rows;     // [pairs] by sorted place: the row
  std::int32_t* places;     // [pairs] by pair: its sorted place
  GroupTile* tiles;         // [most_tiles]
  std::int32_t* num_tiles;  // [1]
};
struct MoePlanArgs {
  const std::int32_t* ids;  // [rows, top_k]
  MoePlan plan;
  Rows rows;
  std::int32_t num_experts, top_k, tile_rows;
};
void moe_plan(const MoePlanArgs& args, cudaStream_t stream);
void moe_plan_many(const MoePlanArgs& args, cudaStream_t stream);  // for thousands of pairs, on sm_90

// y[places[pair]] = x[row of the pair]; bf16, and hidden_size a multiple of 8.
struct MoeScatterArgs {
  const void* x;
  const std::int32_t* places;
  void* y;
  Rows rows;
  std::int32_t hidden_size, top_k;
};
void moe_scatter(const MoeScatterArgs& args, cudaStream_t stream);

struct MoeCombineArgs {
  const void* out;      // [pairs, hidden_size] by sorted place
  const void* weights;  // [rows, top_k]
  const std::int32_t* places;
  void* y;
  Rows rows;
  std::int32_t hidden_size, top_k;
  Element element;
};
void moe_combine(const MoeCombineArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
