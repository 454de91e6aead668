#pragma once
// Pairs (row, choice) sorted by expert, by the blocks of one cluster or one block alone.
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/moe.h"

namespace cajal::cuda {

constexpr int kPlanThreads = 1024;
static_assert(kPlanThreads == kMaxExperts);

struct PlanCounts {
  std::int32_t count[kMaxExperts], begin[kMaxExperts], tiles[kMaxExperts];
};

template <int kBlocks>
__device__ void plan_sync() {
  if constexpr (kBlocks == 1)
    __syncthreads();
  else
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
template <int kBlocks>
__device__ std::int32_t count_of_block(const std::int32_t* own, int block) {
  if constexpr (kBlocks == 1) return *own;
  std::int32_t count;
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %1, %2;\n"
      "ld.shared::cluster.s32 %0, [remote];\n"
      "}"
      : "=r"(count)
      : "r"(shared_address(own)), "r"(block)
      : "memory");
  return count;
}

// Every block counts and places its share of the pairs. The places of one expert's pairs come in any order: no result
// depends on the place at which a row is multiplied. An expert's tiles are as long as each other, but for one row.
template <int kBlocks>
__device__ void plan_pairs(const MoePlanArgs& a, PlanCounts& shared) {
  const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  const int pairs = a.rows.count() * a.top_k, quads = (pairs + 3) / 4;
  const auto each_pair = [&](const auto& body) {
    for (int quad = quads * block / kBlocks + thread; quad < quads * (block + 1) / kBlocks; quad += kPlanThreads) {
      const int at = quad * 4;
      int4 ids = {};
      if (at + 4 <= pairs) ids = *reinterpret_cast<const int4*>(a.ids + at);
      for (int i = 0; i < 4 && at + i < pairs; ++i)
        body(at + i, at + 4 > pairs ? a.ids[at + i] : i == 0 ? ids.x : i == 1 ? ids.y : i == 2 ? ids.z : ids.w);
    }
  };
  shared.count[thread] = 0;
  __syncthreads();
  each_pair([&](int, int id) { atomicAdd(&shared.count[id], 1); });
  plan_sync<kBlocks>();
  int own = 0, before = 0;  // of this thread's expert: in all blocks, and in those before
  for (int i = 0; i < kBlocks; ++i) {
    if (i == block) before = own;
    own += count_of_block<kBlocks>(&shared.count[thread], i);
  }
  const int own_tiles = (own + a.tile_rows - 1) / a.tile_rows;
  shared.begin[thread] = own, shared.tiles[thread] = own_tiles;
  for (int step = 1; step < kMaxExperts; step *= 2) {  // inclusive sums
    __syncthreads();
    const int b = thread >= step ? shared.begin[thread - step] : 0,
              t = thread >= step ? shared.tiles[thread - step] : 0;
    __syncthreads();
    shared.begin[thread] += b, shared.tiles[thread] += t;
  }
  const int first = shared.begin[thread] - own, first_tile = shared.tiles[thread] - own_tiles;
  __syncthreads();
  if (block == 0) {
    const auto row = [&](int tile) {
      return first + static_cast<int>(static_cast<std::int64_t>(own) * tile / own_tiles);
    };
    for (int i = 0; i < own_tiles; ++i) a.plan.tiles[first_tile + i] = {thread, row(i), row(i + 1), 0};
    if (thread == kMaxExperts - 1) *a.plan.num_tiles = shared.tiles[thread];
  }
  shared.begin[thread] = first + before;
  plan_sync<kBlocks>();  // and nobody goes while others read its counts
  each_pair([&](int pair, int id) {
    const int place = atomicAdd(&shared.begin[id], 1);
    a.plan.x_rows[place] = pair / a.top_k;
    a.plan.places[pair] = place;
  });
}

}  // namespace cajal::cuda
