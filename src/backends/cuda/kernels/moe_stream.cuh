#pragma once
// What the streaming kernels of the experts share: the plan that a block makes for itself, and the products of one chunk.
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/moe_stream.h"

namespace cajal::cuda {

constexpr int kMoeWarps = 8;     // that stream weights
constexpr int kMoeChunkK = 128;  // of two stripes of 8 outputs, one stage of a ring
constexpr int kMoeStripeBytes = kMoeChunkK * 16, kMoeStageBytes = 2 * kMoeStripeBytes;

// Pairs sorted by expert, and tiles of rows of one expert.
struct BlockPlan {
  GroupTile tiles[kMoePlannedPairs];
  std::int32_t ids[kMoePlannedPairs];
  std::int16_t pair[kMoePlannedPairs], place[kMoePlannedPairs];  // by place; by pair
  std::int32_t heads[kMoePlannedPairs / 32];
  std::int32_t num_tiles;
};

// One row's choices are tiles as they are. By all threads, at least as many as pairs. The ids must be there: that they come
// from two kernels before is enough where the kernel between has let this one begin after it waited itself.
__device__ inline void make_block_plan(const std::int32_t* ids, int rows, int top_k, int tile_rows, BlockPlan& plan) {
  const int pairs = rows * top_k;
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32;
  const bool mine = t < pairs;
  const int id = mine ? __ldcg(ids + t) : 0;
  if (rows == 1) {
    if (mine) {
      plan.tiles[t] = {id, t, t + 1, 0};
      plan.pair[t] = plan.place[t] = static_cast<std::int16_t>(t);
    }
    if (t == 0) plan.num_tiles = pairs;
    return __syncthreads();
  }
  if (mine) plan.ids[t] = id;
  __syncthreads();
  if (mine) {
    int less = 0, before = 0, equal = 0;
    for (int i = 0; i < pairs; ++i) {
      const int other = plan.ids[i];
      less += other < id, equal += other == id, before += other == id && i < t;
    }
    const int place = less + before;
    plan.pair[place] = static_cast<std::int16_t>(t), plan.place[t] = static_cast<std::int16_t>(place);
    plan.tiles[place] = {id, place, min(less + equal, place + tile_rows), before % tile_rows == 0};
  }
  __syncthreads();
  const GroupTile tile = mine ? plan.tiles[t] : GroupTile{};
  const bool head = mine && tile.unused;
  const unsigned heads = __ballot_sync(~0u, head);
  if (lane == 0 && warp < kMoePlannedPairs / 32) plan.heads[warp] = __popc(heads);
  __syncthreads();
  int slot = __popc(heads & ((1u << lane) - 1)), all = 0;
  for (int i = 0; i < (pairs + 31) / 32; ++i) {
    if (i < warp) slot += plan.heads[i];
    all += plan.heads[i];
  }
  if (head) plan.tiles[slot] = tile;
  if (t == 0) plan.num_tiles = all;
  __syncthreads();
}

// Rows of activations in shared memory begin in different banks.
__host__ __device__ inline int padded_row(int in_features) { return in_features + 8; }

// Adds `length` (a multiple of 32) steps of k of two stripes. `x` is where this lane's part of the rows lies.
template <bool kHigh>
__device__ void multiply_two(std::uint32_t x, std::uint32_t weights, int length, float (&acc)[2][4]) {
  const auto step = [&](int k) {
    std::uint32_t w0[4], w1[4], low[4], high[4];
    ldmatrix_x4(w0, weights + k * 16);
    ldmatrix_x4(w1, weights + kMoeStripeBytes + k * 16);
    ldmatrix_x4(low, x + k * 2);
    if constexpr (kHigh) {
      ldmatrix_x4(high, x + k * 2 + 32);
      mma_16816(acc[0], low, w0[0], w0[1]);
      mma_16816(acc[1], low, w1[0], w1[1]);
      mma_16816(acc[0], high, w0[2], w0[3]);
      mma_16816(acc[1], high, w1[2], w1[3]);
    } else {
      const std::uint32_t first[4] = {low[0], 0, low[1], 0}, second[4] = {low[2], 0, low[3], 0};
      mma_16816(acc[0], first, w0[0], w0[1]);
      mma_16816(acc[1], first, w1[0], w1[1]);
      mma_16816(acc[0], second, w0[2], w0[3]);
      mma_16816(acc[1], second, w1[2], w1[3]);
    }
  };
  if (length == kMoeChunkK) {
#pragma unroll
    for (int k = 0; k < kMoeChunkK; k += 32) step(k);
    return;
  }
  for (int k = 0; k < length; k += 32) step(k);
}
// Byte offset of a lane in `rows` rows `stride` elements apart: of 8 rows four groups of k, of 16 rows two. What is not there
// repeats the last, because others may be writing behind it.
template <bool kHigh>
__device__ int lane_offset(int rows, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % 32, row = min(kHigh ? lane % 16 : lane % 8, rows - 1);
  return row * stride * 2 + (kHigh ? lane / 16 : lane / 8) * 16;
}

// A warp's ring: lane 0 fetches, all multiply.
struct MoeRing {
  std::uint32_t at;
  std::uint64_t* full;
  int stages, issue_stage = 0, stage = 0, parity = 0;

  __device__ void issue(const bf16* first, const bf16* second, int length) {
    const auto bytes = static_cast<std::uint32_t>(length) * 16;
    barrier_expect(&full[issue_stage], 2 * bytes);
    copy_bulk_to(at + issue_stage * kMoeStageBytes, first, bytes, &full[issue_stage]);
    copy_bulk_to(at + issue_stage * kMoeStageBytes + kMoeStripeBytes, second, bytes, &full[issue_stage]);
    issue_stage = issue_stage + 1 == stages ? 0 : issue_stage + 1;
  }
  __device__ std::uint32_t wait() const {
    barrier_wait(&full[stage], parity);
    return at + stage * kMoeStageBytes;
  }
  __device__ void next() {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};
constexpr int kMoeMostStages = 6;

}  // namespace cajal::cuda
