#pragma once
// A warp chooses a row's experts: the same bits wherever the logits come from.
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/moe.h"

namespace cajal::cuda {

// Keys have the order of probabilities: 0 taken, 1 a NaN.
__device__ inline unsigned key_of_probability(float p) { return isnan(p) ? 1 : __float_as_uint(p) + 2; }
__device__ inline float probability_of_key(unsigned key) { return key < 2 ? NAN : __uint_as_float(key - 2); }

// Lane l has experts l, l + 32, ... A NaN is no larger than anything, and no expert is chosen twice. Probabilities are kept as
// keys.
template <class T, int kPerLane, class Logit>
__device__ void choose_experts(const RouterArgs& a, std::int64_t row, const Logit& logit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float p[kPerLane];
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    if (lane + i * 32 < a.num_experts) largest = fmaxf(largest, p[i] = logit(lane + i * 32));
#pragma unroll
  for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    if (lane + i * 32 < a.num_experts) sum = sum + (p[i] = expf(p[i] - largest));
  sum = warp_sum(sum);
  unsigned key[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    key[i] = 0;
    if (lane + i * 32 >= a.num_experts) continue;
    p[i] = p[i] / sum;
    key[i] = key_of_probability(p[i]);
  }
  float chosen_sum = 0, mine[kPerLane];  // of the choices, lane by lane
  std::int32_t* ids = a.ids + row * a.top_k;
  for (int choice = 0; choice < a.top_k; ++choice) {
    unsigned best = key[0];
    int id = lane;
#pragma unroll
    for (int i = 1; i < kPerLane; ++i)
      if (key[i] > best) best = key[i], id = lane + i * 32;
    const unsigned all = __reduce_max_sync(~0u, best);
    id = static_cast<int>(__reduce_min_sync(~0u, best == all ? static_cast<unsigned>(id) : ~0u));
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      if (id == lane + i * 32) key[i] = 0;
    const float value = probability_of_key(all);
    chosen_sum = chosen_sum + value;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      if (choice == lane + i * 32) mine[i] = value;
    if (lane == 0) ids[choice] = id;
  }
  T* weights = static_cast<T*>(a.weights) + row * a.top_k;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    if (lane + i * 32 < a.top_k) weights[lane + i * 32] = store<T>(a.norm_topk_prob ? mine[i] / chosen_sum : mine[i]);
}

}  // namespace cajal::cuda
