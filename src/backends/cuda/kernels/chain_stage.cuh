#pragma once
// Activations into shared memory, all rows of some columns, normed where the operation wants it: by all consumers of a block.
#include "backends/cuda/kernels/chain_ring.cuh"

namespace cajal::cuda {

// Vectors of eight numbers in rows of `groups`: a division of every index would cost more than what is done with it.
struct Vectors {
  int groups, total;
  std::uint32_t reciprocal;
  __device__ Vectors(int columns, int rows, std::uint32_t of_groups)
      : groups(columns / 8), total(groups * rows), reciprocal(of_groups) {}
  __device__ int row(int i) const { return static_cast<int>(__umulhi(static_cast<std::uint32_t>(i), reciprocal)); }
};

// Where the operation reads: rows in the order of the product, or those that are wanted.
struct Source {
  const uint4* x;
  int row_groups;  // of x
  bool wanted, exchanged;
  __device__ int at(int i, int row, int groups) const {
    const int from = wanted ? chain_shared().wanted[row] : row;
    return from * row_groups + i - row * groups;
  }
};

// Into rows of `groups` vectors and one more, so that rows begin in different banks.
__device__ inline void gather(const Source& source, const Vectors& vectors, uint4* x) {
  constexpr int kAtOnce = 8;
#pragma unroll 1
  for (int first = threadIdx.x; first < vectors.total; first += kAtOnce * kConsumerThreads) {
    uint4 v[kAtOnce];
    int from[kAtOnce], to[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int at = first + i * kConsumerThreads;
      if (at >= vectors.total) break;
      const int row = vectors.row(at);
      from[i] = source.at(at, row, vectors.groups), to[i] = at + row;
      v[i] = load_shared_data(source.x + from[i]);
    }
    bool again = source.exchanged;
#pragma unroll 1
    for (Patience patience; again; patience.spend()) {
      again = false;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (first + i * kConsumerThreads >= vectors.total) break;
        if (bf16_missing(v[i])) v[i] = load_shared_data(source.x + from[i]), again = true;
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i * kConsumerThreads >= vectors.total) break;
      x[to[i]] = v[i];
    }
  }
}

// Two numbers in a word. Words are taken apart and put together by hand: eight loads of two bytes and conversions of single
// numbers take four times as long.
struct Pair {
  float low, high;
  __device__ explicit Pair(std::uint32_t word) {
    low = __uint_as_float(word << 16), high = __uint_as_float(word & 0xffff0000u);
  }
};
__device__ inline std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&both);
}
__device__ inline float add_squares(std::uint32_t word, float sum) {
  const Pair p(word);
  return fmaf(p.high, p.high, fmaf(p.low, p.low, sum));
}
__device__ inline std::uint32_t normed(std::uint32_t word, float factor, std::uint32_t weight) {
  const Pair p(word), w(weight), scaled(pack(p.low * factor, p.high * factor));
  return pack(scaled.low * w.low, scaled.high * w.high);
}

// The sums of rms_norm: a warp takes 32 of the kSumLanes lanes of a row.
__device__ inline void sum_squares(const uint4* x, int rows, int groups) {
  const int lane = threadIdx.x % 32;
#pragma unroll 1
  for (int item = static_cast<int>(threadIdx.x) / 32; item < rows * 4; item += kConsumers) {
    const uint4* from = x + item / 4 * (groups + 1);
    float sum = 0;
#pragma unroll 2
    for (int g = item % 4 * 32 + lane; g < groups; g += kSumLanes) {
      const uint4 v = from[g];
      sum = add_squares(v.w, add_squares(v.z, add_squares(v.y, add_squares(v.x, sum))));
    }
    sum = warp_sum(sum);
    if (lane == 0) chain_shared().squares[item / 4][item % 4] = sum;
  }
}

__device__ inline void norm_rows(uint4* x, const uint4* weight, int rows, const Vectors& vectors, float epsilon) {
  ChainShared& shared = chain_shared();
  sum_squares(x, rows, vectors.groups);
  sync_consumers();
  if (threadIdx.x < rows) {
    const float(&s)[4] = shared.squares[threadIdx.x];
    shared.factors[threadIdx.x] = norm_factor((s[0] + s[1]) + (s[2] + s[3]), vectors.groups * 8, epsilon);
  }
  sync_consumers();
#pragma unroll 1
  for (int at = threadIdx.x; at < vectors.total; at += kConsumerThreads) {
    const int row = vectors.row(at);
    const float factor = shared.factors[row];
    const uint4 v = x[at + row], by = weight[at - row * vectors.groups];
    x[at + row] = {normed(v.x, factor, by.x), normed(v.y, factor, by.y), normed(v.z, factor, by.z),
                   normed(v.w, factor, by.w)};
  }
}

}  // namespace cajal::cuda
