#pragma once
// The router's product and its choice in one launch, for few rows.
#include "backends/cuda/kernels/moe.h"

namespace cajal::cuda {

struct MoeRouteArgs {
  const void* x;       // [rows, in_features]
  const void* weight;  // [num_experts, in_features]
  RouterArgs router;   // without logits
  std::int32_t in_features;
};
bool moe_route_accepts(const MoeRouteArgs& args);
void moe_route(const MoeRouteArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
