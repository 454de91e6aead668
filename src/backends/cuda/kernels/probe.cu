#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/probe.h"

#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kBlocks = 132 * 16, kThreads = 1024;
constexpr int kMultiplyThreads = 256, kMultiplySteps = 4096;

__global__ void __launch_bounds__(kThreads) read_kernel(const uint4* data, std::size_t count, std::uint32_t* sink) {
  std::uint32_t sum = 0;
  for (std::size_t i = blockIdx.x * static_cast<std::size_t>(kThreads) + threadIdx.x; i < count;
       i += kBlocks * kThreads) {
    const uint4 v = __ldcs(data + i);
    sum ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x12345677) *sink = sum;
}

__global__ void __launch_bounds__(kMultiplyThreads, 1) multiply_kernel(const uint4* data, std::uint32_t* sink) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr int kTileBytes = 64 * 16 * 2 * 2 + 256 * 16 * 2;
  __shared__ __align__(128) unsigned char tiles[kTileBytes];
  for (int i = threadIdx.x; i < kTileBytes / 16; i += kMultiplyThreads) reinterpret_cast<uint4*>(tiles)[i] = data[i];
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const std::uint32_t base = shared_address(tiles);
  const std::uint64_t a = tiled_descriptor(base + threadIdx.x / 128 * 64 * 16 * 2, 256);
  const std::uint64_t b = tiled_descriptor(base + 64 * 16 * 2 * 2, 256);
  float acc[128];
#pragma unroll
  for (int i = 0; i < 128; ++i) acc[i] = 0;
  for (int step = 0; step < kMultiplySteps; step += 8) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 8; ++i) wgmma_k16<256>(acc, a, b);
    wgmma_commit();
    wgmma_wait<0>();
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 128; ++i) sum += acc[i];
  if (sum == 0.12345f) *sink = 1;
#endif
}

constexpr int kChains = 16;  // independent sums of a thread, so that none waits for itself

__global__ void __launch_bounds__(kMultiplyThreads) mma_kernel(std::uint32_t* sink) {
  const std::uint32_t some = threadIdx.x;  // the bits of small numbers
  const std::uint32_t a[4] = {some, some + 1, some + 2, some + 3};
  float acc[kChains][4] = {};
  for (int step = 0; step < kMultiplySteps; step += kChains) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) mma_16816(acc[i], a, some, some + i);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kChains; ++i) sum += acc[i][0] + acc[i][1] + acc[i][2] + acc[i][3];
  if (sum == 0.12345f) *sink = 1;
}

__global__ void __launch_bounds__(kMultiplyThreads) f32_kernel(std::uint32_t* sink) {
  const float a = static_cast<float>(threadIdx.x) * 1e-6f;
  float acc[kChains];
#pragma unroll
  for (int i = 0; i < kChains; ++i) acc[i] = static_cast<float>(i);
  for (int step = 0; step < kMultiplySteps; ++step) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) acc[i] = fmaf(acc[i], a, 1.0f);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kChains; ++i) sum += acc[i];
  if (sum == 0.12345f) *sink = 1;
}

__global__ void fill_kernel(std::uint32_t* data, std::size_t words) {
  for (std::size_t i = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x; i < words;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x) {
    std::uint32_t h = static_cast<std::uint32_t>(i) * 2654435761u + static_cast<std::uint32_t>(i >> 32);
    h ^= h >> 15, h *= 2246822519u, h ^= h >> 13;
    data[i] = (h & 0x80ff80ffu) | 0x3c003c00u;
  }
}

}  // namespace

void probe_read(const void* data, std::size_t bytes, std::uint32_t* sink, cudaStream_t stream) {
  read_kernel<<<kBlocks, kThreads, 0, stream>>>(static_cast<const uint4*>(data), bytes / 16, sink);
}
double probe_multiply(const void* data, std::uint32_t* sink, cudaStream_t stream) {
  const int blocks = multiprocessors();
  multiply_kernel<<<blocks, kMultiplyThreads, 0, stream>>>(static_cast<const uint4*>(data), sink);
  return 2.0 * 128 * 256 * 16 * kMultiplySteps * blocks;
}
double probe_multiply_mma(std::uint32_t* sink, cudaStream_t stream) {
  const int blocks = multiprocessors() * 4;
  mma_kernel<<<blocks, kMultiplyThreads, 0, stream>>>(sink);
  return 2.0 * 16 * 8 * 16 * kMultiplySteps * (kMultiplyThreads / 32) * blocks;
}
double probe_multiply_f32(std::uint32_t* sink, cudaStream_t stream) {
  const int blocks = multiprocessors() * 4;
  f32_kernel<<<blocks, kMultiplyThreads, 0, stream>>>(sink);
  return 2.0 * kChains * kMultiplySteps * kMultiplyThreads * blocks;
}
void probe_fill(void* data, std::size_t bytes, cudaStream_t stream) {
  fill_kernel<<<kBlocks, 512, 0, stream>>>(static_cast<std::uint32_t*>(data), bytes / 4);
}

}  // namespace cajal::cuda
