#pragma once
// The mixture of experts for many rows an expert, near the speed of the matrix units, on sm_90: rows lie in memory sorted by
// expert, in tiles that moe_plan made.
#include "backends/cuda/kernels/moe.h"

namespace cajal::cuda {

struct MoeGroupedArgs {
  const void* x;  // [pairs, in_features] by sorted place
  const void* weight;
  void* y;     // [pairs, out_features], or of gate and up half as many
  Rows pairs;  // rows of x
  std::int32_t num_experts, in_features, out_features;
  const GroupTile* tiles;
  const std::int32_t* num_tiles;
  std::int32_t tile_rows;  // 64 or 256: of the plan
};
bool moe_grouped_accepts(const MoeGroupedArgs& args);
// silu(gate) * up, or the product. False where the driver cannot describe the matrices.
bool moe_gate_up_grouped(const MoeGroupedArgs& args, cudaStream_t stream);
bool moe_down_grouped(const MoeGroupedArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
