// attention_any: a warp a row and head, 32 positions at a time, everything in f32.
#include "backends/cuda/kernels/attention.h"
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/elementwise.h"
#include "backends/cuda/kernels/launch.cuh"

namespace cajal::cuda {
namespace {

__device__ float warp_max(float v) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, step));
  return v;
}

template <class T>
__global__ void __launch_bounds__(32) attention_any_kernel(AttentionArgs a) {
  follow_previous();
  const int lane = threadIdx.x, head = static_cast<int>(blockIdx.x) % a.num_heads, dim = a.head_dim;
  const std::int64_t row = blockIdx.x / a.num_heads;
  if (row >= a.rows.count()) return;
  __shared__ float q[kMaxHeadDim], o[kMaxHeadDim];
  const T* from = static_cast<const T*>(a.q) + static_cast<std::int64_t>(blockIdx.x) * dim;
  for (int i = lane; i < dim; i += 32) q[i] = load(from[i]), o[i] = 0;
  __syncwarp();
  const std::int32_t* blocks = a.block_tables + static_cast<std::int64_t>(a.seq_indices[row]) * a.max_blocks_per_seq;
  const int kv_head = head / (a.num_heads / a.num_kv_heads);
  const auto vector_at = [&](const void* cache, int position) {
    const std::int64_t block = blocks[position / a.block_size];
    return static_cast<const T*>(cache) +
           ((block * a.num_kv_heads + kv_head) * a.block_size + position % a.block_size) * dim;
  };
  const int end = a.positions[row] + 1;
  const int begin = a.sliding_window > 0 && a.sliding_window < end ? end - static_cast<int>(a.sliding_window) : 0;
  float m = -INFINITY, l = 0;
  for (int first = begin / 32 * 32; first < end; first += 32) {
    const int position = first + lane;
    const bool seen = position >= begin && position < end;
    float score = -INFINITY;
    if (seen) {
      const T* k = vector_at(a.k_cache, position);
      score = 0;
      for (int i = 0; i < dim; ++i) score = fmaf(q[i], load(k[i]), score);
      score = score * a.scale;
    }
    const float largest = fmaxf(m, warp_max(score)), shrink = expf(m - largest);
    const float p = seen ? expf(score - largest) : 0.0f;
    m = largest;
    l = fmaf(l, shrink, warp_sum(p));
    for (int i = lane; i < dim; i += 32) o[i] = o[i] * shrink;
    for (int j = max(begin, first); j < min(end, first + 32); ++j) {
      const float pj = __shfl_sync(~0u, p, j - first);
      const T* v = vector_at(a.v_cache, j);
      for (int i = lane; i < dim; i += 32) o[i] = fmaf(pj, load(v[i]), o[i]);
    }
  }
  T* y = static_cast<T*>(a.y) + static_cast<std::int64_t>(blockIdx.x) * dim;
  for (int i = lane; i < dim; i += 32) y[i] = store<T>(o[i] / l);
}

}  // namespace

void attention_any(const AttentionArgs& a, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(a.rows.most) * static_cast<unsigned>(a.num_heads);
  with_element(a.element, [&](auto t) { launch_kernel(attention_any_kernel<decltype(t)>, blocks, 32, 0, stream, a); });
}

}  // namespace cajal::cuda
