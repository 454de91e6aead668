// linear_f32: a thread an output of a 16 x 16 tile, in the order that the op itself names. For exactness, not for speed.
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/linear.h"

namespace cajal::cuda {
namespace {

constexpr int kTile = 16;

struct Block {
  const float* weight;
  int begin, end;  // rows
};

__device__ bool find_block(const LinearArgs& a, Block& block) {
  block.weight = static_cast<const float*>(a.weight);
  if (!a.tiles) {
    block.begin = static_cast<int>(blockIdx.x) * kTile;
    block.end = min(block.begin + kTile, a.rows.count());
    return block.begin < block.end;
  }
  const int tile = static_cast<int>(blockIdx.x) / (a.tile_rows / kTile);
  if (tile >= *a.num_tiles) return false;
  const GroupTile t = a.tiles[tile];
  block.weight += t.group * a.group_elements;
  block.begin = t.begin + static_cast<int>(blockIdx.x) % (a.tile_rows / kTile) * kTile;
  block.end = min(t.end, block.begin + kTile);
  return block.begin < block.end;
}

__global__ void __launch_bounds__(kTile* kTile) linear_f32_kernel(LinearArgs a) {
  follow_previous();
  Block block;
  if (!find_block(a, block)) return;
  __shared__ float x[kTile][kTile + 1], w[kTile][kTile + 1];
  const int tn = threadIdx.x % kTile, tm = threadIdx.x / kTile;
  const int m = block.begin + tm, first_n = static_cast<int>(blockIdx.y) * kTile, n = first_n + tn;
  const std::int64_t source = m < block.end ? (a.x_rows ? a.x_rows[m] : m) : 0;
  const int part = a.in_features / a.sum_parts;
  float pending[3], sum = 0;
  for (int p = 0; p < a.sum_parts; ++p) {
    sum = 0;
    for (int k0 = p * part; k0 < (p + 1) * part; k0 += kTile) {
      const int k = k0 + tn, end = (p + 1) * part;
      __syncthreads();
      x[tm][tn] = m < block.end && k < end ? static_cast<const float*>(a.x)[source * a.in_features + k] : 0.0f;
      const int out = first_n + tm;
      w[tm][tn] =
          out < a.out_features && k < end ? block.weight[static_cast<std::int64_t>(out) * a.in_features + k] : 0.0f;
      __syncthreads();
      for (int i = 0; i < min(kTile, end - k0); ++i) sum = fmaf(x[tm][i], w[tn][i], sum);
    }
    int level = 0;
    for (; p >> level & 1; ++level) sum = pending[level] + sum;
    if (level < 3) pending[level] = sum;
  }
  if (m >= block.end || n >= a.out_features) return;
  static_cast<float*>(a.y)[static_cast<std::int64_t>(m) * a.out_features + n] =
      sum + (a.bias ? static_cast<const float*>(a.bias)[n] : 0.0f);
}

}  // namespace

void linear_f32(const LinearArgs& a, cudaStream_t stream) {
  const int m = a.tiles ? a.most_tiles * (a.tile_rows / kTile) : (a.rows.most + kTile - 1) / kTile;
  const dim3 grid(static_cast<unsigned>(m), static_cast<unsigned>((a.out_features + kTile - 1) / kTile));
  launch_kernel(linear_f32_kernel, grid, kTile * kTile, 0, stream, a);
}

}  // namespace cajal::cuda
