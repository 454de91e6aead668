#include "backends/cuda/kernels/probe.h"

#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kBlocks = 132 * 16, kThreads = 1024;
constexpr int kMultiplyThreads = 256, kMultiplySteps = 4096, kTileBytes = 64 * 16 * 2 * 2 + 256 * 16 * 2;

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
  int device = 0, blocks = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&blocks, cudaDevAttrMultiProcessorCount, device);
  multiply_kernel<<<blocks, kMultiplyThreads, 0, stream>>>(static_cast<const uint4*>(data), sink);
  return 2.0 * 128 * 256 * 16 * kMultiplySteps * blocks;
}
void probe_fill(void* data, std::size_t bytes, cudaStream_t stream) {
  fill_kernel<<<kBlocks, 512, 0, stream>>>(static_cast<std::uint32_t*>(data), bytes / 4);
}

}  // namespace cajal::cuda
