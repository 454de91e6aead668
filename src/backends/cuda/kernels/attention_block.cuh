#pragma once
// One block of 64 positions for 16 rows of packed queries, and the merging of blocks and pieces: attention.h in code, for
// every kernel of the class.
#include "backends/cuda/kernels/attention.h"
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/mma.cuh"

namespace cajal::cuda {

constexpr int kBlock = 64, kPiece = 256, kBlocksPerPiece = kPiece / kBlock;

// The positions begin .. end-1 that a row sees.
struct Span {
  int begin, end;
  __device__ bool meets(int first, int last) const { return begin < last && end > first; }
};
__device__ inline Span visible(const AttentionArgs& a, int row) {
  const int end = a.positions[row] + 1;
  return {a.sliding_window > 0 && a.sliding_window < end ? end - static_cast<int>(a.sliding_window) : 0, end};
}

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Rows of D bf16 numbers in shared memory, 16-byte chunks swapped so that eight rows lie in different banks.
template <int D>
__device__ std::uint32_t row_chunk(int row, int chunk) {
  return row * (D * 2) + ((chunk ^ (row & 7)) * 16);
}

// The same in halves of 64 numbers, 64 rows each, as the copy engine swaps the chunks of rows of 128 bytes.
template <int D>
struct InRows {
  static __device__ std::uint32_t at(int row, int chunk) { return row_chunk<D>(row, chunk); }
};
template <int D>
struct InHalves {
  static __device__ std::uint32_t at(int row, int chunk) { return chunk / 8 * (64 * 128) + row_of_128(row, chunk % 8); }
};

// What a thread holds of 16 rows: rows lane / 4 and lane / 4 + 8; of o, columns 8 j + lane % 4 * 2 and the next.
template <int D>
struct Partial {
  float m[2], l[2];
  float o[D / 8][4];

  __device__ void clear() {
#pragma unroll
    for (int h = 0; h < 2; ++h) m[h] = -INFINITY, l[h] = 0;
#pragma unroll
    for (int j = 0; j < D / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) o[j][e] = 0;
  }
};

// The factors of two partial results with maxima `m` and `other`.
struct Merge {
  float m, own, others;
  __device__ Merge(float mine, float other)
      : m(fmaxf(mine, other)), own(exp2_fast(mine - m)), others(exp2_fast(other - m)) {}
  __device__ float operator()(float mine, float other) const { return fmaf(other, others, mine * own); }
};

template <int D>
__device__ void merge(Partial<D>& into, const Partial<D>& from, const bool (&there)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!there[h]) continue;
    const Merge by(into.m[h], from.m[h]);
    into.m[h] = by.m;
    into.l[h] = by(into.l[h], from.l[h]);
#pragma unroll
    for (int j = 0; j < D / 8; ++j)
#pragma unroll
      for (int e = 2 * h; e < 2 * h + 2; ++e) into.o[j][e] = by(into.o[j][e], from.o[j][e]);
  }
}

// Scores of 16 rows of q with the block's keys: s[n][e] is column 8 n + lane % 4 * 2 + e % 2 of row lane / 4 + e / 2 * 8.
template <int D, class Layout = InRows<D>>
__device__ void block_scores(std::uint32_t q, std::uint32_t k, float (&s)[kBlock / 8][4]) {
  const int lane = threadIdx.x % 32, matrix = lane / 8, in = lane % 8;
#pragma unroll
  for (int n = 0; n < kBlock / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[n][e] = 0;
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    std::uint32_t x[4];
    ldmatrix_x4(x, q + row_chunk<D>((matrix & 1) * 8 + in, step * 2 + matrix / 2));
#pragma unroll
    for (int n = 0; n < kBlock / 8; n += 2) {
      std::uint32_t y[4];
      ldmatrix_x4(y, k + Layout::at((n + matrix / 2) * 8 + in, step * 2 + (matrix & 1)));
      mma_16816(s[n], x, y[0], y[1]);
      mma_16816(s[n + 1], x, y[2], y[3]);
    }
  }
}

// Scores of positions that a row does not see: -infinity. Of rows lane / 4 alone where kHalves is 1, here and in three below.
template <int kHalves = 2>
__device__ inline void mask_block(float (&s)[kBlock / 8][4], int first, const Span (&spans)[2]) {
  const int column = threadIdx.x % 4 * 2;
#pragma unroll
  for (int n = 0; n < kBlock / 8; ++n)
#pragma unroll
    for (int e = 0; e < 2 * kHalves; ++e) {
      const int position = first + n * 8 + column + e % 2;
      if (position < spans[e / 2].begin || position >= spans[e / 2].end) s[n][e] = -INFINITY;
    }
}

// The largest score of each row.
template <int kHalves = 2>
__device__ inline void block_maxima(const float (&s)[kBlock / 8][4], float (&largest)[2]) {
#pragma unroll
  for (int h = 0; h < kHalves; ++h) {
    float most[4];  // of a quarter each: the order of a maximum is free
#pragma unroll
    for (int n = 0; n < kBlock / 8; ++n) {
      const float larger = fmaxf(s[n][2 * h], s[n][2 * h + 1]);
      most[n % 4] = n < 4 ? larger : fmaxf(most[n % 4], larger);
    }
    largest[h] = fmaxf(fmaxf(most[0], most[1]), fmaxf(most[2], most[3]));
    largest[h] = fmaxf(largest[h], __shfl_xor_sync(~0u, largest[h], 1));
    largest[h] = fmaxf(largest[h], __shfl_xor_sync(~0u, largest[h], 2));
  }
}

// Scores to probabilities, and the largest score, in m, to the block's m, with l.
template <int kHalves = 2>
__device__ inline void block_probabilities(float (&s)[kBlock / 8][4], float factor, float (&m)[2], float (&l)[2]) {
#pragma unroll
  for (int h = 0; h < kHalves; ++h) {
    const bool none = m[h] == -INFINITY;
    m[h] = m[h] * factor;
    const float base = none ? 0.0f : -m[h];
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kBlock / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& v = s[n][2 * h + e];
        v = exp2_fast(fmaf(v, factor, base));
        sum = sum + v;
      }
    sum = sum + __shfl_xor_sync(~0u, sum, 1);
    l[h] = sum + __shfl_xor_sync(~0u, sum, 2);
  }
}

// Scores to probabilities, with m and l.
template <int kHalves = 2>
__device__ inline void whole_block_softmax(float (&s)[kBlock / 8][4], float factor, float (&m)[2], float (&l)[2]) {
  block_maxima<kHalves>(s, m);
  block_probabilities<kHalves>(s, factor, m, l);
}
// What a row does not see has no probability.
__device__ inline void block_softmax(float (&s)[kBlock / 8][4], float factor, int first, const Span (&spans)[2],
                                     float (&m)[2], float (&l)[2]) {
  mask_block(s, first, spans);
  whole_block_softmax(s, factor, m, l);
}

// Columns 8 * first .. 8 * (first + kTiles) of the probabilities' sum of the block's values.
template <int D, class Layout = InRows<D>, int kTiles>
__device__ void block_values_of(const float (&p)[kBlock / 8][4], std::uint32_t v, int first, float (&o)[kTiles][4]) {
  const int lane = threadIdx.x % 32, matrix = lane / 8, in = lane % 8;
#pragma unroll
  for (int j = 0; j < kTiles; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) o[j][e] = 0;
#pragma unroll
  for (int step = 0; step < kBlock / 16; ++step) {
    const float(&a)[4] = p[2 * step], (&b)[4] = p[2 * step + 1];
    const std::uint32_t x[4] = {pack_bf16(a[0], a[1]), pack_bf16(a[2], a[3]), pack_bf16(b[0], b[1]),
                                pack_bf16(b[2], b[3])};
#pragma unroll
    for (int j = 0; j < kTiles; j += 2) {
      std::uint32_t y[4];
      ldmatrix_x4_trans(y, v + Layout::at(step * 16 + (matrix & 1) * 8 + in, first + j + matrix / 2));
      mma_16816(o[j], x, y[0], y[1]);
      mma_16816(o[j + 1], x, y[2], y[3]);
    }
  }
}
template <int D, class Layout = InRows<D>>
__device__ void block_values(const float (&p)[kBlock / 8][4], std::uint32_t v, float (&o)[D / 8][4]) {
  block_values_of<D, Layout>(p, v, 0, o);
}

template <int D>
__device__ void attend_block(std::uint32_t q, std::uint32_t k, std::uint32_t v, float factor, int first,
                             const Span (&spans)[2], Partial<D>& out) {
  float s[kBlock / 8][4];
  block_scores<D>(q, k, s);
  block_softmax(s, factor, first, spans, out.m, out.l);
  block_values<D>(s, v, out.o);
}

// Copies rows first .. first + 63 of one head from the cache to shared memory, `threads` threads together; rows from
// `end` on are zeros, whatever their slots hold.
template <int D>
__device__ void load_block(const bf16* cache_block, int first, int end, std::uint32_t to, int thread, int threads) {
  for (int i = thread; i < kBlock * (D / 8); i += threads) {
    const int row = i / (D / 8), chunk = i % (D / 8);
    const bool there = first + row < end;
    copy_async_16(to + row_chunk<D>(row, chunk), cache_block + (there ? row * D + chunk * 8 : 0), there);
  }
}

}  // namespace cajal::cuda
