// linear_mma: tiles of BM x 128 outputs, blocks of 64 k through a ring of cp.async stages.
#include <type_traits>

#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/mma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kBlockN = 128, kBlockK = 64, kStages = 3, kThreads = 256;

template <int BM>
struct Layout {
  static constexpr int kWarpsM = BM >= 64 ? 2 : 1, kWarpsN = 8 / kWarpsM;
  static constexpr int kTilesM = BM / kWarpsM / 16, kTilesN = kBlockN / kWarpsN / 8;  // of 16 x 8, in a warp
  static constexpr int kXBytes = BM * kBlockK * 2, kWeightBytes = kBlockN * kBlockK * 2;
  static constexpr int kStageBytes = kXBytes + kWeightBytes;
};

// What a block of threads computes, and where the blocks of k lie.
struct Work {
  const bf16 *x, *weight;
  int begin, end, first_n;  // rows, first output
  int padded_k, part, blocks_per_part;

  struct Block {
    int k, valid;  // first k, how many of kBlockK
  };
  __device__ Block block(int i) const {
    const int inside = i % blocks_per_part * kBlockK;
    return {i / blocks_per_part * part + inside, min(kBlockK, part - inside)};
  }
};

__device__ std::uint32_t x_offset(int row, int chunk) { return row * (kBlockK * 2) + ((chunk ^ (row & 7)) * 16); }

// Whole groups of eight elements, 16 bytes at a time.
template <int BM>
__device__ void load_stage(const LinearArgs& a, const Work& w, int block, std::uint32_t stage) {
  const auto [k, valid] = w.block(block);
  for (int i = threadIdx.x; i < BM * 8; i += kThreads) {
    const int row = i / 8, chunk = i % 8, m = w.begin + row;
    const bool there = m < w.end && chunk * 8 < valid;
    const int source = there ? (a.x_rows ? a.x_rows[m] : m) : 0;
    copy_async_16(stage + x_offset(row, chunk),
                  w.x + (there ? static_cast<std::int64_t>(source) * a.in_features + k + chunk * 8 : 0), there);
  }
  const int stripes = (a.out_features + 7) / 8;
  for (int i = threadIdx.x; i < kBlockN * 8; i += kThreads) {
    const int stripe = w.first_n / 8 + i / 64, chunk = i % 64;  // group of k, row of the stripe
    const bool there = stripe < stripes && chunk < valid;
    copy_async_16(stage + BM * kBlockK * 2 + i * 16,
                  w.weight + (there ? static_cast<std::int64_t>(stripe) * 8 * w.padded_k + k * 8 + chunk * 8 : 0),
                  there);
  }
}

// Any widths, one element at a time.
template <int BM>
__device__ void load_stage_by_elements(const LinearArgs& a, const Work& w, int block, unsigned char* stage) {
  const auto [k, valid] = w.block(block);
  for (int i = threadIdx.x; i < BM * kBlockK; i += kThreads) {
    const int row = i / kBlockK, at = i % kBlockK, m = w.begin + row;
    bf16 v = store<bf16>(0.0f);
    if (m < w.end && at < valid)
      v = w.x[static_cast<std::int64_t>(a.x_rows ? a.x_rows[m] : m) * a.in_features + k + at];
    *reinterpret_cast<bf16*>(stage + x_offset(row, at / 8) + at % 8 * 2) = v;
  }
  for (int i = threadIdx.x; i < kBlockN * kBlockK; i += kThreads) {
    const int n = i / kBlockK, at = i % kBlockK, out = w.first_n + n;
    bf16 v = store<bf16>(0.0f);
    if (out < a.out_features && at < valid)
      v = w.weight[static_cast<std::int64_t>(out / 8) * 8 * w.padded_k + (k + at) / 8 * 64 + out % 8 * 8 +
                   (k + at) % 8];
    *reinterpret_cast<bf16*>(stage + BM * kBlockK * 2 + ((n / 8 * 8 + at / 8) * 8 + n % 8) * 16 + at % 8 * 2) = v;
  }
}

template <int BM>
__device__ void multiply_stage(std::uint32_t stage, int valid,
                               float (&acc)[Layout<BM>::kTilesM][Layout<BM>::kTilesN][4]) {
  using L = Layout<BM>;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, matrix = lane / 8, in = lane % 8;
  const int row0 = warp / L::kWarpsN * L::kTilesM * 16, stripe0 = warp % L::kWarpsN * L::kTilesN;
  for (int step = 0; step * 16 < valid; ++step) {
    std::uint32_t x[L::kTilesM][4];
#pragma unroll
    for (int i = 0; i < L::kTilesM; ++i)
      ldmatrix_x4(x[i], stage + x_offset(row0 + i * 16 + (matrix & 1) * 8 + in, step * 2 + matrix / 2));
#pragma unroll
    for (int j = 0; j < L::kTilesN; j += 2) {
      std::uint32_t w[4];
      ldmatrix_x4(w, stage + L::kXBytes + (((stripe0 + j + matrix / 2) * 8 + step * 2 + (matrix & 1)) * 8 + in) * 16);
#pragma unroll
      for (int i = 0; i < L::kTilesM; ++i) {
        mma_16816(acc[i][j], x[i], w[0], w[1]);
        mma_16816(acc[i][j + 1], x[i], w[2], w[3]);
      }
    }
  }
}

template <int BM>
__device__ void write(const LinearArgs& a, const Work& w, float (&acc)[Layout<BM>::kTilesM][Layout<BM>::kTilesN][4]) {
  using L = Layout<BM>;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const bf16* bias = static_cast<const bf16*>(a.bias);
#pragma unroll
  for (int i = 0; i < L::kTilesM; ++i)
#pragma unroll
    for (int j = 0; j < L::kTilesN; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int m = w.begin + warp / L::kWarpsN * L::kTilesM * 16 + i * 16 + half * 8 + lane / 4;
        const int n = w.first_n + (warp % L::kWarpsN * L::kTilesN + j) * 8 + lane % 4 * 2;
        if (m >= w.end) continue;
        bf16* y = static_cast<bf16*>(a.y) + static_cast<std::int64_t>(m) * a.out_features + n;
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (n + e < a.out_features) y[e] = store<bf16>(acc[i][j][half * 2 + e] + (bias ? load(bias[n + e]) : 0.0f));
      }
}

template <int BM, bool kParts, bool kAnyWidth>
__global__ void __launch_bounds__(kThreads, 1) linear_mma_kernel(LinearArgs a) {
  follow_previous();
  using L = Layout<BM>;
  extern __shared__ __align__(128) unsigned char shared[];
  Work w{static_cast<const bf16*>(a.x), static_cast<const bf16*>(a.weight)};
  if (a.tiles) {
    if (static_cast<int>(blockIdx.x) >= *a.num_tiles) return;
    const GroupTile tile = a.tiles[blockIdx.x];
    w.weight += tile.group * a.group_elements;
    w.begin = tile.begin, w.end = tile.end;
  } else {
    w.begin = static_cast<int>(blockIdx.x) * BM;
    w.end = min(w.begin + BM, a.rows.count());
    if (w.begin >= w.end) return;
  }
  w.first_n = static_cast<int>(blockIdx.y) * kBlockN;
  w.padded_k = (a.in_features + 7) / 8 * 8;
  w.part = a.in_features / a.sum_parts;
  w.blocks_per_part = (w.part + kBlockK - 1) / kBlockK;
  const int blocks = w.blocks_per_part * a.sum_parts;
  const auto load_block = [&](int i) {
    unsigned char* stage = shared + i % kStages * L::kStageBytes;
    if constexpr (kAnyWidth)
      load_stage_by_elements<BM>(a, w, i, stage);
    else
      load_stage<BM>(a, w, i, shared_address(stage));
  };
  float acc[L::kTilesM][L::kTilesN][4] = {};
  float pending[kParts ? 3 : 1][L::kTilesM][L::kTilesN][4];  // sums of 1, 2 and 4 parts that wait for their neighbours
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < blocks) load_block(i);
    copy_async_commit();
  }
  for (int i = 0; i < blocks; ++i) {
    copy_async_wait<kStages - 2>();
    __syncthreads();
    if (i + kStages - 1 < blocks) load_block(i + kStages - 1);
    copy_async_commit();
    multiply_stage<BM>(shared_address(shared + i % kStages * L::kStageBytes), w.block(i).valid, acc);
    if constexpr (kParts) {
      if ((i + 1) % w.blocks_per_part != 0) continue;
      int level = 0;
      const int part = i / w.blocks_per_part;
      for (; part >> level & 1; ++level)
        for (int m = 0; m < L::kTilesM; ++m)
          for (int n = 0; n < L::kTilesN; ++n)
            for (int e = 0; e < 4; ++e) acc[m][n][e] = pending[level][m][n][e] + acc[m][n][e];
      if (i + 1 == blocks) break;
      for (int m = 0; m < L::kTilesM; ++m)
        for (int n = 0; n < L::kTilesN; ++n)
          for (int e = 0; e < 4; ++e) pending[level][m][n][e] = acc[m][n][e], acc[m][n][e] = 0;
    }
  }
  write<BM>(a, w, acc);
}

template <int BM, bool kParts, bool kAnyWidth>
void launch(const LinearArgs& a, cudaStream_t stream) {
  constexpr int kBytes = kStages * Layout<BM>::kStageBytes;
  cudaFuncSetAttribute(linear_mma_kernel<BM, kParts, kAnyWidth>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  const unsigned m = a.tiles ? static_cast<unsigned>(a.most_tiles) : static_cast<unsigned>((a.rows.most + BM - 1) / BM);
  const dim3 grid(m, static_cast<unsigned>((a.out_features + kBlockN - 1) / kBlockN));
  launch_kernel(linear_mma_kernel<BM, kParts, kAnyWidth>, grid, kThreads, kBytes, stream, a);
}

template <int BM>
void launch(const LinearArgs& a, cudaStream_t stream) {
  const int part = a.in_features / a.sum_parts;
  if (a.in_features % 8 != 0 || part % 8 != 0)
    return a.sum_parts > 1 ? launch<BM, true, true>(a, stream) : launch<BM, false, true>(a, stream);
  a.sum_parts > 1 ? launch<BM, true, false>(a, stream) : launch<BM, false, false>(a, stream);
}

}  // namespace

void linear_mma(const LinearArgs& a, cudaStream_t stream) {
  const int rows = a.tiles ? a.tile_rows : a.rows.most;
  if (rows <= 16) return launch<16>(a, stream);
  if (rows <= 64) return launch<64>(a, stream);
  launch<128>(a, stream);
}

}  // namespace cajal::cuda
