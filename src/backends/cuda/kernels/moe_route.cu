// moe_route: clusters of eight blocks, each for 16 rows. A warp multiplies them by the weights of eight experts, which came to
// shared memory while other kernels ran, and sends the logits to the block that chooses for the row.
#include "backends/cuda/kernels/moe_route.h"

#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/moe_choose.cuh"

namespace cajal::cuda {
namespace {

constexpr int kCluster = 8, kClusterRows = 16, kMostRows = 256, kMostExperts = 256;
constexpr int kSharedBytes = 227 * 1024 - 4 * 1024;

struct Shared {
  std::uint64_t full[kMostExperts / 8 / kCluster], x_full;
  bf16 logits[kClusterRows / kCluster][kMostExperts];
};

__device__ void store_in_cluster(bf16* to, int rank, float value) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "st.shared::cluster.b16 [remote], %2;\n"
      "}" ::"r"(shared_address(to)),
      "r"(rank), "h"(__bfloat16_as_ushort(store<bf16>(value)))
      : "memory");
}

__host__ __device__ int x_stride(const MoeRouteArgs& a) { return a.in_features + 8; }  // rows in different banks
int x_bytes(const MoeRouteArgs& a) { return ((a.router.rows.most > 8 ? 16 : 8) * x_stride(a) * 2 + 127) / 128 * 128; }
int warps(const MoeRouteArgs& a) { return (a.router.num_experts / 8 + kCluster - 1) / kCluster; }
int shared_bytes(const MoeRouteArgs& a) { return x_bytes(a) + warps(a) * a.in_features * 16; }

template <bool kHigh>
__device__ void multiply(std::uint32_t x, std::uint32_t weights, int in_features, float (&acc)[4]) {
#pragma unroll 8
  for (int k = 0; k < in_features; k += 32) {
    std::uint32_t w[4], low[4], high[4];
    ldmatrix_x4(w, weights + k * 16);
    ldmatrix_x4(low, x + k * 2);
    if constexpr (kHigh) {
      ldmatrix_x4(high, x + k * 2 + 32);
      mma_16816(acc, low, w[0], w[1]);
      mma_16816(acc, high, w[2], w[3]);
    } else {
      const std::uint32_t first[4] = {low[0], 0, low[1], 0}, second[4] = {low[2], 0, low[3], 0};
      mma_16816(acc, first, w[0], w[1]);
      mma_16816(acc, second, w[2], w[3]);
    }
  }
}

template <bool kHigh, int kPerLane>
__global__ void __cluster_dims__(kCluster, 1, 1) moe_route_kernel(MoeRouteArgs a, int x_size) {
  extern __shared__ __align__(128) unsigned char dynamic[];
  __shared__ Shared shared;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int block = static_cast<int>(blockIdx.x) % kCluster, stripe = warp * kCluster + block;
  const int first_row = static_cast<int>(blockIdx.x) / kCluster * kClusterRows;
  const int rows = min(a.router.rows.count() - first_row, kClusterRows);  // known since before the step's first kernel
  const bool working = stripe * 8 < a.router.num_experts;
  const std::uint32_t x = shared_address(dynamic), weights = x + x_size + warp * a.in_features * 16;
  if (threadIdx.x == 0) barrier_init(&shared.x_full, 1);
  if (lane == 0 && working) barrier_init(&shared.full[warp], 1);
  barrier_fence_init();
  if (lane == 0 && working) {
    const auto bytes = static_cast<std::uint32_t>(a.in_features) * 16;
    barrier_expect(&shared.full[warp], bytes);
    copy_bulk_to(weights, static_cast<const bf16*>(a.weight) + static_cast<std::int64_t>(stripe) * a.in_features * 8,
                 bytes, &shared.full[warp]);
  }
  __syncthreads();
  wait_for_previous();
  // From here on x is there for the next kernel too.
  let_next_begin();
  if (rows <= 0) {                                     // for all blocks of the cluster
    if (working) barrier_wait(&shared.full[warp], 0);  // nothing may come to memory that is another block's
    return;
  }
  if (threadIdx.x < rows) {
    const auto bytes = static_cast<std::uint32_t>(a.in_features) * 2;
    if (threadIdx.x == 0) barrier_expect(&shared.x_full, bytes * static_cast<std::uint32_t>(rows));
    __syncwarp((1u << rows) - 1);
    copy_bulk_to(x + lane * x_stride(a) * 2,
                 static_cast<const bf16*>(a.x) + static_cast<std::int64_t>(first_row + lane) * a.in_features, bytes,
                 &shared.x_full);
  }
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");  // all blocks are there
  float acc[4] = {0, 0, 0, 0};
  if (working) {
    barrier_wait(&shared.full[warp], 0);
    barrier_wait(&shared.x_full, 0);
    const int row = min(kHigh ? lane % 16 : lane % 8, rows - 1), group = kHigh ? lane / 16 : lane / 8;
    multiply<kHigh>(x + row * x_stride(a) * 2 + group * 16, weights + lane * 16, a.in_features, acc);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int r = lane / 4 + e / 2 * 8;
      if (r < rows)
        store_in_cluster(&shared.logits[r / kCluster][stripe * 8 + lane % 4 * 2 + e % 2], r % kCluster, acc[e]);
    }
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  for (int i = warp; i * kCluster + block < rows; i += static_cast<int>(blockDim.x) / 32)
    choose_experts<bf16, kPerLane>(a.router, first_row + i * kCluster + block,
                                   [&](int expert) { return load(shared.logits[i][expert]); });
}

template <bool kHigh, int kPerLane>
void launch(const MoeRouteArgs& a, cudaStream_t stream) {
  const auto kernel = moe_route_kernel<kHigh, kPerLane>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes(a));
  const int clusters = (a.router.rows.most + kClusterRows - 1) / kClusterRows;
  launch_kernel(kernel, static_cast<unsigned>(clusters * kCluster), warps(a) * 32, shared_bytes(a), stream, a,
                x_bytes(a));
}
template <int kPerLane>
void launch(const MoeRouteArgs& a, cudaStream_t stream) {
  a.router.rows.most > 8 ? launch<true, kPerLane>(a, stream) : launch<false, kPerLane>(a, stream);
}

}  // namespace

bool moe_route_accepts(const MoeRouteArgs& a) {
  return a.router.element == Element::bf16 && a.router.rows.most <= kMostRows && a.router.num_experts % 8 == 0 &&
         a.router.num_experts <= kMostExperts && a.in_features % 32 == 0 && shared_bytes(a) <= kSharedBytes;
}

void moe_route(const MoeRouteArgs& a, cudaStream_t stream) {
  a.router.num_experts > 128 ? launch<kMostExperts / 32>(a, stream) : launch<4>(a, stream);
}

}  // namespace cajal::cuda
