// linear_stream: for at most 16 rows. A warp takes 8 outputs (and, where the sum has parts, one part of k) at a time and streams
// their weights through a ring of its own; all activations lie in shared memory.
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/mma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32, kMostRows = 16;
constexpr int kStageK = 256, kStageBytes = 8 * kStageK * 2, kMostStages = 6, kLeastStages = 3;
constexpr int kSharedBytes = 227 * 1024 - 10 * 1024;  // of a block, but for what is declared below

int x_stride(const LinearArgs& a) { return a.in_features + 8; }  // elements; rows begin in different banks
int x_bytes(const LinearArgs& a) { return (a.rows.most * x_stride(a) * 2 + 127) / 128 * 128; }
int stages(const LinearArgs& a) {
  const int fit = (kSharedBytes - x_bytes(a)) / (kWarps * kStageBytes);
  return fit < kMostStages ? fit : kMostStages;
}

// Which outputs and which part of k a warp does n-th.
struct Units {
  int stripes, parts, part_k, chunks;  // chunks of kStageK in a part
  int warp, n = 0, chunk = 0;

  __device__ int stripe(int i) const {
    return (i * (kWarps / parts) + warp / parts) * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
  }
  __device__ int part() const { return warp % parts; }
  __device__ int first_k(int c) const { return part() * part_k + c * kStageK; }
  __device__ int length(int c) const { return min(kStageK, part_k - c * kStageK); }
};

struct Shared {
  std::uint64_t full[kWarps][kMostStages];
  float sums[2][kWarps][kMostRows][8];
};

// kHigh: rows 8 to 15 exist.
template <bool kHigh>
__device__ void multiply(const bf16* x, int stride, int rows, std::uint32_t weights, int length, float (&acc)[4]) {
  const int lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
  const bool low_there = row < rows, high_there = kHigh && row + 8 < rows;
  const bf16 *low = x + (low_there ? row : 0) * stride + column,
             *high = x + (high_there ? row + 8 : 0) * stride + column;
  const auto word = [](const bf16* p) { return *reinterpret_cast<const std::uint32_t*>(p); };
  const auto step = [&](int k, std::uint32_t b0, std::uint32_t b1) {
    const std::uint32_t a[4] = {low_there ? word(low + k) : 0, high_there ? word(high + k) : 0,
                                low_there ? word(low + k + 8) : 0, high_there ? word(high + k + 8) : 0};
    mma_16816(acc, a, b0, b1);
  };
  const std::uint32_t at = weights + lane * 16;
  if (length == kStageK) {
#pragma unroll
    for (int k = 0; k < kStageK; k += 32) {
      std::uint32_t w[4];
      ldmatrix_x4(w, at + k * 16);
      step(k, w[0], w[1]);
      step(k + 16, w[2], w[3]);
    }
    return;
  }
  for (int k = 0; k < length; k += 32) {
    std::uint32_t w[4];
    ldmatrix_x4(w, at + k * 16);
    step(k, w[0], w[1]);
    if (k + 16 < length) step(k + 16, w[2], w[3]);
  }
}

// The balanced tree over the sums of `parts` neighbouring warps.
__device__ float tree(const float (*sums)[kMostRows][8], int parts, int row, int column) {
  float s[kWarps];
#pragma unroll
  for (int i = 0; i < kWarps; ++i) s[i] = i < parts ? sums[i][row][column] : 0.0f;
  if (parts == 2) return s[0] + s[1];
  const float low = (s[0] + s[1]) + (s[2] + s[3]);
  return parts == 4 ? low : low + ((s[4] + s[5]) + (s[6] + s[7]));
}

__device__ void write(const LinearArgs& a, int row, int n, float sum) {
  if (n >= a.out_features) return;
  if (a.bias) sum = sum + load(static_cast<const bf16*>(a.bias)[n]);
  static_cast<bf16*>(a.y)[static_cast<std::int64_t>(row) * a.out_features + n] = store<bf16>(sum);
}

template <bool kHigh>
__global__ void __launch_bounds__(kThreads, 1) linear_stream_kernel(LinearArgs a, int num_stages, int x_size) {
  extern __shared__ __align__(128) unsigned char dynamic[];
  __shared__ Shared shared;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  let_next_begin();
  bf16* x = reinterpret_cast<bf16*>(dynamic);
  unsigned char* ring = dynamic + x_size + warp * num_stages * kStageBytes;
  Units units{(a.out_features + 7) / 8, a.sum_parts, a.in_features / a.sum_parts};
  units.chunks = (units.part_k + kStageK - 1) / kStageK, units.warp = warp;

  if (lane == 0)
    for (int i = 0; i < num_stages; ++i) barrier_init(&shared.full[warp][i], 1);
  barrier_fence_init();
  __syncwarp();
  const bf16* weight = static_cast<const bf16*>(a.weight);
  int issue_stage = 0;
  const auto issue = [&] {  // by lane 0
    const int stripe = units.stripe(units.n);
    if (stripe >= units.stripes) return;
    const auto bytes = static_cast<std::uint32_t>(units.length(units.chunk)) * 16;
    barrier_expect(&shared.full[warp][issue_stage], bytes);
    copy_bulk(ring + issue_stage * kStageBytes,
              weight + (static_cast<std::int64_t>(stripe) * a.in_features + units.first_k(units.chunk)) * 8, bytes,
              &shared.full[warp][issue_stage]);
    issue_stage = issue_stage + 1 == num_stages ? 0 : issue_stage + 1;
    if (++units.chunk == units.chunks) units.chunk = 0, ++units.n;
  };
  if (lane == 0)
    for (int i = 0; i < num_stages; ++i) issue();

  wait_for_previous();  // weights are nobody's result
  const int rows = a.rows.count();
  const int stride = a.in_features + 8, chunks = a.in_features / 8;
  for (int i = threadIdx.x; i < rows * chunks; i += kThreads)
    *reinterpret_cast<uint4*>(x + i / chunks * stride + i % chunks * 8) = reinterpret_cast<const uint4*>(a.x)[i];
  __syncthreads();

  int stage = 0, parity = 0;
  for (int n = 0, stripe; (stripe = units.stripe(n)) < units.stripes; ++n) {
    float acc[4] = {0, 0, 0, 0};
    for (int chunk = 0; chunk < units.chunks; ++chunk) {
      barrier_wait(&shared.full[warp][stage], parity);
      multiply<kHigh>(x + units.first_k(chunk), stride, rows, shared_address(ring + stage * kStageBytes),
                      units.length(chunk), acc);
      __syncwarp();
      if (lane == 0) issue();
      if (++stage == num_stages) stage = 0, parity ^= 1;
    }
    const int row = lane / 4, column = lane % 4 * 2;
    if (a.sum_parts == 1) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (row + e / 2 * 8 < rows) write(a, row + e / 2 * 8, stripe * 8 + column + e % 2, acc[e]);
      continue;
    }
    float(*sums)[kMostRows][8] = shared.sums[n % 2];
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[warp][row + e / 2 * 8][column + e % 2] = acc[e];
    asm volatile("bar.sync %0, %1;" ::"r"(warp / a.sum_parts + 1), "r"(a.sum_parts * 32) : "memory");
    if (units.part() == 0)
      for (int i = lane; i < rows * 8; i += 32)
        write(a, i / 8, stripe * 8 + i % 8, tree(sums + warp, a.sum_parts, i / 8, i % 8));
  }
}

template <bool kHigh>
void launch(const LinearArgs& a, cudaStream_t stream) {
  const int bytes = x_bytes(a) + kWarps * stages(a) * kStageBytes;
  cudaFuncSetAttribute(linear_stream_kernel<kHigh>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  launch_kernel(linear_stream_kernel<kHigh>, multiprocessors(), kThreads, bytes, stream, a, stages(a), x_bytes(a));
}

}  // namespace

bool linear_stream_accepts(const LinearArgs& a) {
  return a.element == Element::bf16 && !a.tiles && a.rows.most <= kMostRows && a.in_features % 8 == 0 &&
         a.in_features / a.sum_parts % 16 == 0 && stages(a) >= kLeastStages;
}

void linear_stream(const LinearArgs& a, cudaStream_t stream) {
  a.rows.most > 8 ? launch<true>(a, stream) : launch<false>(a, stream);
}

}  // namespace cajal::cuda
