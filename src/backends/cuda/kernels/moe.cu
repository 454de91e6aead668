#include "backends/cuda/kernels/moe.h"

#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace cajal::cuda {
namespace {

constexpr int kPlanThreads = 1024, kThreads = 128;
constexpr int kPerLane = kMaxExperts / 32;

// A warp a row; lane l has experts l, l + 32, ... A NaN is no larger than anything, and no expert is chosen twice.
template <class T>
__global__ void __launch_bounds__(32) router_kernel(RouterArgs a) {
  follow_previous();
  const std::int64_t row = blockIdx.x;
  if (row >= a.rows.count()) return;
  const int lane = threadIdx.x;
  const T* logits = static_cast<const T*>(a.logits) + row * a.num_experts;
  __shared__ float p[kMaxExperts];
  float largest = -INFINITY;
  for (int i = lane; i < a.num_experts; i += 32) largest = fmaxf(largest, load(logits[i]));
#pragma unroll
  for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
  float sum = 0;
  for (int i = lane; i < a.num_experts; i += 32) sum = sum + (p[i] = expf(load(logits[i]) - largest));
  sum = warp_sum(sum);
  for (int i = lane; i < a.num_experts; i += 32) {
    p[i] = p[i] / sum;
    if (isnan(p[i])) p[i] = -1.0f;
  }
  float chosen_sum = 0, mine[kPerLane];  // of the choices, lane by lane
  std::int32_t* ids = a.ids + row * a.top_k;
  for (int choice = 0; choice < a.top_k; ++choice) {
    float best = -3.0f;
    int id = 0;
    for (int i = lane; i < a.num_experts; i += 32)
      if (p[i] > best) best = p[i], id = i;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(~0u, best, step);
      const int other_id = __shfl_xor_sync(~0u, id, step);
      if (other > best || (other == best && other_id < id)) best = other, id = other_id;
    }
    if (id % 32 == lane) p[id] = -2.0f;  // taken
    const float value = best < 0 ? NAN : best;
    chosen_sum = chosen_sum + value;
    if (choice % 32 == lane) mine[choice / 32] = value;
    if (lane == 0) ids[choice] = id;
    __syncwarp();
  }
  T* weights = static_cast<T*>(a.weights) + row * a.top_k;
  for (int i = lane; i < a.top_k; i += 32)
    weights[i] = store<T>(a.norm_topk_prob ? mine[i / 32] / chosen_sum : mine[i / 32]);
}

// One block of threads counts, adds up and places. The places of one expert's pairs come in any order: no result depends
// on the place at which a row is multiplied.
__global__ void __launch_bounds__(kPlanThreads) moe_plan_kernel(MoePlanArgs a) {
  follow_previous();
  __shared__ std::int32_t count[kMaxExperts], begin[kMaxExperts], tiles[kMaxExperts];
  const int thread = threadIdx.x, pairs = a.rows.count() * a.top_k;
  if (thread < a.num_experts) count[thread] = 0;
  __syncthreads();
  for (int i = thread; i < pairs; i += kPlanThreads) atomicAdd(&count[a.ids[i]], 1);
  __syncthreads();
  const int own = thread < a.num_experts ? count[thread] : 0, own_tiles = (own + a.tile_rows - 1) / a.tile_rows;
  begin[thread] = own, tiles[thread] = own_tiles;
  for (int step = 1; step < kMaxExperts; step *= 2) {  // inclusive sums
    __syncthreads();
    const int b = thread >= step ? begin[thread - step] : 0, t = thread >= step ? tiles[thread - step] : 0;
    __syncthreads();
    begin[thread] += b, tiles[thread] += t;
  }
  const int first = begin[thread] - own, first_tile = tiles[thread] - own_tiles;
  __syncthreads();
  for (int i = 0; i < own_tiles; ++i)
    a.plan.tiles[first_tile + i] = {thread, first + i * a.tile_rows, min(first + own, first + (i + 1) * a.tile_rows),
                                    0};
  if (thread == kMaxExperts - 1) *a.plan.num_tiles = tiles[thread];
  begin[thread] = first;
  __syncthreads();
  for (int i = thread; i < pairs; i += kPlanThreads) {
    const int place = atomicAdd(&begin[a.ids[i]], 1);
    a.plan.x_rows[place] = i / a.top_k;
    a.plan.places[i] = place;
  }
}

template <class T>
__global__ void moe_combine_kernel(MoeCombineArgs a) {
  follow_previous();
  const std::int64_t at = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (at >= static_cast<std::int64_t>(a.rows.count()) * a.hidden_size) return;
  const std::int64_t row = at / a.hidden_size, column = at % a.hidden_size;
  const T *out = static_cast<const T*>(a.out), *weights = static_cast<const T*>(a.weights);
  float sum = 0;
  for (std::int64_t pair = row * a.top_k; pair < (row + 1) * a.top_k; ++pair)
    sum = sum + rounded<T>(load(weights[pair]) *
                           load(out[a.places[pair] * static_cast<std::int64_t>(a.hidden_size) + column]));
  static_cast<T*>(a.y)[at] = store<T>(sum);
}

}  // namespace

void router(const RouterArgs& a, cudaStream_t stream) {
  with_element(a.element, [&](auto t) { launch_kernel(router_kernel<decltype(t)>, a.rows.most, 32, 0, stream, a); });
}
void moe_plan(const MoePlanArgs& a, cudaStream_t stream) {
  static_assert(kPlanThreads == kMaxExperts);
  launch_kernel(moe_plan_kernel, 1, kPlanThreads, 0, stream, a);
}
void moe_combine(const MoeCombineArgs& a, cudaStream_t stream) {
  const std::int64_t blocks = (static_cast<std::int64_t>(a.rows.most) * a.hidden_size + kThreads - 1) / kThreads;
  with_element(a.element, [&](auto t) {
    launch_kernel(moe_combine_kernel<decltype(t)>, static_cast<unsigned>(blocks), kThreads, 0, stream, a);
  });
}

}  // namespace cajal::cuda
