// moe_down_combine: the down projection and the weighted sum for a few rows. A block takes 16 outputs of all chosen experts, so
// that it can add up a row's choices in their order itself.
#include "backends/cuda/kernels/moe_stream.cuh"

namespace cajal::cuda {
namespace {

constexpr int kThreads = kMoeWarps * 32;
constexpr int kSharedBytes = 227 * 1024 - 16 * 1024;  // of a block, but for what is declared below

struct Shared {
  std::uint64_t full[kMoeWarps][kMoeMostStages];
  float products[2][kMoeCombinedPairs][16];  // by pair
  float weights[kMoeCombinedPairs];
  BlockPlan plan;
};

// A warp multiplies 16 outputs by every kMoeWarps-th tile, and then the block's next 16 outputs.
struct Weights {
  const MoeDownCombineArgs& a;
  const BlockPlan& plan;
  int unit, tile, chunk = 0;

  __device__ void issue(MoeRing& ring) {  // by lane 0
    if (tile >= plan.num_tiles || unit >= a.out_features / 16) return;
    const int k = chunk * kMoeChunkK, length = min(kMoeChunkK, a.in_features - k);
    const bf16* first = static_cast<const bf16*>(a.weight) + plan.tiles[tile].group * a.group_elements +
                        (static_cast<std::int64_t>(unit) * 2 * a.in_features + k) * 8;
    ring.issue(first, first + static_cast<std::int64_t>(a.in_features) * 8, length);
    if (k + kMoeChunkK < a.in_features) {
      ++chunk;
      return;
    }
    chunk = 0, tile += kMoeWarps;
    if (tile >= plan.num_tiles) tile %= kMoeWarps, unit += static_cast<int>(gridDim.x);
  }
};

// Outputs of the tile's rows, rounded as if written, times their weights, rounded again.
__device__ void keep_products(const GroupTile& tile, const float (&acc)[2][4], float (*products)[16], Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = tile.begin + lane / 4 + half * 8;
    if (row >= tile.end) continue;
    const int pair = shared.plan.pair[row];
#pragma unroll
    for (int s = 0; s < 2; ++s)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        products[pair][s * 8 + lane % 4 * 2 + e] =
            rounded<bf16>(shared.weights[pair] * rounded<bf16>(acc[s][half * 2 + e]));
  }
}

__global__ void __launch_bounds__(kThreads, 1) moe_down_combine_kernel(MoeDownCombineArgs a, int stages, int x_bytes) {
  extern __shared__ __align__(128) unsigned char dynamic[];
  __shared__ Shared shared;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0)
    for (int i = 0; i < stages; ++i) barrier_init(&shared.full[warp][i], 1);
  barrier_fence_init();
  __syncthreads();
  const int rows = a.rows.count(), pairs = rows * a.top_k, units = a.out_features / 16;
  make_block_plan(a.ids, rows, a.top_k, a.tile_rows, shared.plan);
  MoeRing ring{shared_address(dynamic) + x_bytes + warp * stages * kMoeStageBytes, shared.full[warp], stages};
  Weights weights{a, shared.plan, static_cast<int>(blockIdx.x), warp};
  if (lane == 0)
    for (int i = 0; i < stages; ++i) weights.issue(ring);

  wait_for_previous();  // weights are nobody's result
  let_next_begin();
  const int stride = padded_row(a.in_features), groups = a.in_features / 8;
  for (int i = static_cast<int>(threadIdx.x); i < pairs * groups; i += kThreads)
    *reinterpret_cast<uint4*>(dynamic + (i / groups * stride + i % groups * 8) * 2) =
        __ldcg(static_cast<const uint4*>(a.hidden) + i);
  if (threadIdx.x < pairs) shared.weights[threadIdx.x] = load(static_cast<const bf16*>(a.weights)[threadIdx.x]);
  __syncthreads();
  int buffer = 0;
  for (int unit = static_cast<int>(blockIdx.x); unit < units; unit += static_cast<int>(gridDim.x), buffer ^= 1) {
    for (int i = warp; i < shared.plan.num_tiles; i += kMoeWarps) {
      const GroupTile tile = shared.plan.tiles[i];
      const int count = tile.end - tile.begin;
      const bool high = count > 8;
      const std::uint32_t x = shared_address(dynamic) + tile.begin * stride * 2 +
                              (high ? lane_offset<true>(count, stride) : lane_offset<false>(count, stride));
      float acc[2][4] = {};
      for (int k = 0; k < a.in_features; k += kMoeChunkK) {
        const std::uint32_t w = ring.wait() + lane * 16;
        const int length = min(kMoeChunkK, a.in_features - k);
        if (high)
          multiply_two<true>(x + k * 2, w, length, acc);
        else
          multiply_two<false>(x + k * 2, w, length, acc);
        __syncwarp();
        if (lane == 0) weights.issue(ring);
        ring.next();
      }
      keep_products(tile, acc, shared.products[buffer], shared);
    }
    __syncthreads();  // a block that comes back to this buffer has passed the next such point in between
    for (int i = static_cast<int>(threadIdx.x); i < rows * 16; i += kThreads) {
      const int row = i / 16, column = i % 16;
      float sum = 0;
      for (int pair = row * a.top_k; pair < (row + 1) * a.top_k; ++pair)
        sum = sum + shared.products[buffer][pair][column];
      static_cast<bf16*>(a.y)[static_cast<std::int64_t>(row) * a.out_features + unit * 16 + column] = store<bf16>(sum);
    }
  }
}

int x_bytes(const MoeDownCombineArgs& a) {
  return (a.rows.most * a.top_k * padded_row(a.in_features) * 2 + 127) / 128 * 128;
}
int stages(const MoeDownCombineArgs& a) {
  const int fit = (kSharedBytes - x_bytes(a)) / (kMoeWarps * kMoeStageBytes);
  return fit < 3 ? fit : 3;
}

}  // namespace

bool moe_down_combine_accepts(const MoeDownCombineArgs& a) {
  return a.in_features % 32 == 0 && a.out_features % 16 == 0 && a.tile_rows <= kMoeStreamRows &&
         a.rows.most * a.top_k <= kMoeCombinedPairs && stages(a) >= 2;
}

void moe_down_combine(const MoeDownCombineArgs& a, cudaStream_t stream) {
  const int bytes = x_bytes(a) + kMoeWarps * stages(a) * kMoeStageBytes;
  cudaFuncSetAttribute(moe_down_combine_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  launch_kernel(moe_down_combine_kernel, multiprocessors(), kThreads, bytes, stream, a, stages(a), x_bytes(a));
}

}  // namespace cajal::cuda
