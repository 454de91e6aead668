#pragma once
// The linears of moe_chain, and the norms before them. A block takes up to 64 outputs as the rows of wgmma and the step's rows as its
// eight columns: of the ways to add 16 products to a sum this one waits least for the sum (21 clocks on an H200, mma.sync 34).
#include "backends/cuda/kernels/moe_chain_stages.cuh"
#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda::moe_chain_parts {

// A block's outputs: stripes [first, first + count). Stages hold `groups` times kPieceK of k.
struct Stripes {
  const bf16* weight;
  int in_features, first, count, groups;
};
__device__ inline Stripes stripes_of(const void* weight, int out_features, int in_features, int block) {
  const int all = out_features / 8, each = (all + static_cast<int>(gridDim.x) - 1) / static_cast<int>(gridDim.x);
  const int first = block * each, count = max(min(each, all - first), 0);
  return {static_cast<const bf16*>(weight), in_features, first, count, kStagePieces / max(count, 1)};
}

// Activations lie as [k / 8][rows][8]; what stands where there is no row only reaches columns that nobody reads.
__device__ inline std::uint64_t rows_descriptor(std::uint32_t address, int rows) {
  return static_cast<std::uint64_t>((address & 0x3ffff) >> 4) | (static_cast<std::uint64_t>(rows) << 16) |
         (std::uint64_t{1} << 32);
}

// d[half * 2 + e] is the sum of output warp * 16 + half * 8 + lane / 4 of the block and row lane % 4 * 2 + e. One warpgroup
// multiplies, the other only passes the stages.
// kRows: if there are as many for sure: what the descriptors are then made of costs one addition each.
template <int kRows>
__device__ __forceinline__ void multiply_stages(Drain& drain, int all, int count, int groups, std::uint32_t x,
                                                int most_rows, float (&d)[4]) {
  const int rows = kRows > 0 ? kRows : most_rows;
  std::uint64_t b = rows_descriptor(x, rows);
  int last = -1;
#pragma unroll 1
  for (int k = 0; k < all; k += groups * kPieceK) {
    std::uint64_t a = tiled_descriptor(drain.wait(), kPieceBytes);
    const int here = min(groups, (all - k) / kPieceK);
#pragma unroll 1
    for (int g = 0; g < here; ++g) {
      wgmma_fence();
#pragma unroll
      for (int i = 0; i < kPieceK / 16; ++i) wgmma_k16<8>(d, a + (i * 256 >> 4), b + i * 2 * rows);
      wgmma_commit();
      wgmma_wait<1>();  // for all but what has just begun: the sums go on
      if (g == 0 && last >= 0) drain.leave(last);
      a += (count * kPieceBytes) >> 4, b += kPieceK / 8 * rows;
    }
    last = drain.walk.stage;
    drain.next();
  }
  wgmma_wait<0>();
  if (last >= 0) drain.leave(last);
}
__device__ __forceinline__ void pass_stages(Drain& drain, int all, int groups) {
#pragma unroll 1
  for (int k = 0; k < all; k += groups * kPieceK) {
    drain.wait();
    drain.leave(drain.walk.stage);
    drain.next();
  }
}
__device__ __forceinline__ void multiply_stripes(Drain& drain, const Stripes& s, std::uint32_t x, int rows,
                                                 float (&d)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) d[i] = 0;
  const int all = s.count == 0 ? 0 : s.in_features;
  if (__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0) != 0)
    pass_stages(drain, all, s.groups);
  else if (rows == 1)
    multiply_stages<1>(drain, all, s.count, s.groups, x, rows, d);
  else
    multiply_stages<0>(drain, all, s.count, s.groups, x, rows, d);
}
// body(row, output of the matrix, sum, which of the thread's four) for what a thread has.
template <class Body>
__device__ void each_sum(const Stripes& s, int rows, const float (&d)[4], const Body& body) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int row = lane % 4 * 2 + e;
      if (row < rows && warp * 2 + half < s.count)
        body(row, (s.first + warp * 2 + half) * 8 + lane / 4, d[half * 2 + e], half * 2 + e);
    }
}

// What was written to shared memory may be read by wgmma.
__device__ inline void publish_rows() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  sync_consumers();
}

__device__ inline void unpack(const uint4& raw, float (&out)[8]) {
  const bf16* e = reinterpret_cast<const bf16*>(&raw);
#pragma unroll
  for (int i = 0; i < 8; ++i) out[i] = load(e[i]);
}

// Rows that other blocks write, normed, as wgmma and ldmatrix read them. Four warps a row, in the order of rms_norm: each of
// kSumLanes threads squares every kSumLanes-th group of eight.
constexpr int kNormGroups = 4;
struct Norm {
  const bf16* from;
  const void* weight;
  float epsilon;
  int rows, most_rows, columns;
};
__device__ __forceinline__ void norm_rows(const Norm& n, unsigned char* to) {
  const int team = static_cast<int>(threadIdx.x) / kSumLanes, at = static_cast<int>(threadIdx.x) % kSumLanes;
  const int mine = (n.columns / 8 - at + kSumLanes - 1) / kSumLanes;
  float* squares = chain_shared().squares + team * 4;
  uint4 w[kNormGroups];
#pragma unroll
  for (int i = 0; i < kNormGroups; ++i)
    if (i < mine) w[i] = __ldg(static_cast<const uint4*>(n.weight) + at + i * kSumLanes);
#pragma unroll 1
  for (int row = team; row < n.rows; row += kConsumerThreads / kSumLanes) {
    uint4 v[kNormGroups];
    poll(v, mine, [&](int i) { return n.from + row * n.columns + (at + i * kSumLanes) * 8; });
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kNormGroups; ++i) {
      float e[8];
      unpack(v[i], e);
      if (i < mine) sum = add_squares(e, sum);
    }
    sum = warp_sum(sum);
    if (at % 32 == 0) squares[at / 32] = sum;
    asm volatile("bar.sync %0, %1;" ::"r"(2 + team), "n"(kSumLanes) : "memory");
    const float factor = norm_factor((squares[0] + squares[1]) + (squares[2] + squares[3]), n.columns, n.epsilon);
#pragma unroll
    for (int i = 0; i < kNormGroups; ++i) {
      if (i >= mine) continue;
      float e[8], by[8];
      unpack(v[i], e), unpack(w[i], by);
      uint4 raw;
      bf16* out = reinterpret_cast<bf16*>(&raw);
#pragma unroll
      for (int j = 0; j < 8; ++j) out[j] = store<bf16>(normed<bf16>(e[j], factor, by[j]));
      *reinterpret_cast<uint4*>(to + ((at + i * kSumLanes) * n.most_rows + row) * 16) = raw;
    }
    asm volatile("bar.sync %0, %1;" ::"r"(2 + team), "n"(kSumLanes) : "memory");  // before the next row's squares
  }
  publish_rows();
}

}  // namespace cajal::cuda::moe_chain_parts
