// For many rows on sm_90: the plan made by a cluster of blocks, and the rows copied to where experts find them.
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/moe_plan.cuh"

namespace cajal::cuda {
namespace {

constexpr int kPlanBlocks = 8, kThreads = 256;

__global__ void __cluster_dims__(kPlanBlocks, 1, 1) __launch_bounds__(kPlanThreads)
    moe_plan_many_kernel(MoePlanArgs a) {
  follow_previous();
  __shared__ PlanCounts shared;
  plan_pairs<kPlanBlocks>(a, shared);
}

// A block a row, which goes to the places of all of its choices.
__global__ void __launch_bounds__(kThreads) moe_scatter_kernel(MoeScatterArgs a) {
  follow_previous();
  const std::int64_t row = blockIdx.x;
  if (row >= a.rows.count()) return;
  const int groups = a.hidden_size / 8;
  const uint4* from = static_cast<const uint4*>(a.x) + row * groups;
  for (int i = static_cast<int>(threadIdx.x); i < groups; i += kThreads) {
    const uint4 eight = from[i];
    for (int choice = 0; choice < a.top_k; ++choice)
      static_cast<uint4*>(a.y)[static_cast<std::int64_t>(a.places[row * a.top_k + choice]) * groups + i] = eight;
  }
}

}  // namespace

void moe_plan_many(const MoePlanArgs& a, cudaStream_t stream) {
  launch_kernel(moe_plan_many_kernel, kPlanBlocks, kPlanThreads, 0, stream, a);
}
void moe_scatter(const MoeScatterArgs& a, cudaStream_t stream) {
  launch_kernel(moe_scatter_kernel, static_cast<unsigned>(a.rows.most), kThreads, 0, stream, a);
}

}  // namespace cajal::cuda
