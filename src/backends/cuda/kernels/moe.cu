#include "backends/cuda/kernels/moe.h"

#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/moe_choose.cuh"
#include "backends/cuda/kernels/moe_plan.cuh"

namespace cajal::cuda {
namespace {

constexpr int kThreads = 128;

template <class T, int kPerLane>
__global__ void __launch_bounds__(32) router_kernel(RouterArgs a) {
  follow_previous();
  const std::int64_t row = blockIdx.x;
  if (row >= a.rows.count()) return;
  const T* logits = static_cast<const T*>(a.logits) + row * a.num_experts;
  choose_experts<T, kPerLane>(a, row, [&](int expert) { return load(logits[expert]); });
}

__global__ void __launch_bounds__(kPlanThreads) moe_plan_kernel(MoePlanArgs a) {
  follow_previous();
  __shared__ PlanCounts shared;
  plan_pairs<1>(a, shared);
}

// A thread eight columns; as many choices as may be are on their way before the first is added.
template <class T>
__global__ void moe_combine_kernel(MoeCombineArgs a) {
  follow_previous();
  const int groups = (a.hidden_size + 7) / 8;
  const std::int64_t at = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (at >= static_cast<std::int64_t>(a.rows.count()) * groups) return;
  const std::int64_t row = at / groups;
  const int column = static_cast<int>(at % groups) * 8, n = a.hidden_size - column;
  const T *out = static_cast<const T*>(a.out), *weights = static_cast<const T*>(a.weights);
  float sum[8] = {};
#pragma unroll 8
  for (int choice = 0; choice < a.top_k; ++choice) {
    const std::int64_t pair = row * a.top_k + choice;
    float v[8];
    load8(out + a.places[pair] * static_cast<std::int64_t>(a.hidden_size) + column, n, v);
    const float weight = load(weights[pair]);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] = sum[i] + rounded<T>(weight * v[i]);
  }
  store8(static_cast<T*>(a.y) + row * a.hidden_size + column, n, sum);
}

}  // namespace

void router(const RouterArgs& a, cudaStream_t stream) {
  with_element(a.element, [&](auto t) {
    const auto kernel =
        a.num_experts <= 128 ? router_kernel<decltype(t), 4> : router_kernel<decltype(t), kMaxExperts / 32>;
    launch_kernel(kernel, static_cast<unsigned>(a.rows.most), 32, 0, stream, a);
  });
}
void moe_plan(const MoePlanArgs& a, cudaStream_t stream) {
  launch_kernel(moe_plan_kernel, 1, kPlanThreads, 0, stream, a);
}
void moe_combine(const MoeCombineArgs& a, cudaStream_t stream) {
  const std::int64_t groups = (a.hidden_size + 7) / 8, blocks = (a.rows.most * groups + kThreads - 1) / kThreads;
  with_element(a.element, [&](auto t) {
    launch_kernel(moe_combine_kernel<decltype(t)>, static_cast<unsigned>(blocks), kThreads, 0, stream, a);
  });
}

}  // namespace cajal::cuda
