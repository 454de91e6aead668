#pragma once
// The mixture of experts for few rows an expert, at the speed of memory: every warp streams stripes of 8 outputs of the
// chosen experts' weights through a ring of its own, and multiplies all rows that chose the expert by each.
#include "backends/cuda/kernels/moe.h"

namespace cajal::cuda {

// A block multiplies tiles of at most this many rows of one expert.
constexpr int kMoeStreamRows = 16;
// So many pairs (row, choice) are sorted by every block for itself; more need moe_plan.
constexpr int kMoePlannedPairs = 256;

// Pairs by sorted place are the pairs ordered by expert.
struct MoeStreamArgs {
  const void* x;  // of gate and up [rows, in_features]; of down [pairs, in_features] by sorted place
  const void* weight;
  void* y;  // [pairs, intermediate_size] or [pairs, hidden_size] by sorted place
  Rows rows;
  std::int32_t in_features, out_features, top_k;  // out_features of one expert's matrix: gate and up together
  std::int64_t group_elements;                    // from one expert's matrix to the next
  const std::int32_t* ids;                        // [rows, top_k]: plan here, and write `plan.places` if it is not null
  MoePlan plan;                                   // or, where ids is null: the plan that moe_plan made
  std::int32_t most_tiles, tile_rows;
};
bool moe_stream_accepts(const MoeStreamArgs& args);
// silu(gate) * up of every pair.
void moe_gate_up_stream(const MoeStreamArgs& args, cudaStream_t stream);
// The down projection of every pair.
void moe_down_stream(const MoeStreamArgs& args, cudaStream_t stream);

// The down projection and the weighted sum, for at most kMoeCombinedPairs pairs.
struct MoeDownCombineArgs {
  const void* hidden;  // [pairs, in_features] by sorted place
  const void* weight;
  const void* weights;  // [rows, top_k]
  const std::int32_t* ids;
  void* y;  // [rows, out_features]
  Rows rows;
  std::int32_t in_features, out_features, top_k, tile_rows;
  std::int64_t group_elements;
};
constexpr int kMoeCombinedPairs = 32;
bool moe_down_combine_accepts(const MoeDownCombineArgs& args);
void moe_down_combine(const MoeDownCombineArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
