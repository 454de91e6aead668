// linear_wgmma: tiles of 128 rows by BN outputs. One thread has the copy engine bring blocks of 64 k into a ring, two warpgroups
// multiply 64 rows each. Two blocks of threads, one below the other, form a cluster: each fetches half of the weights that
// both need, for both.
#include <cuda.h>

#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kBlockM = 128, kBlockK = 64, kGroupThreads = 128, kThreads = 3 * kGroupThreads, kCluster = 2;
constexpr int kXBytes = kBlockM * kBlockK * 2;
constexpr int kReleases =
    kCluster * 2 * kGroupThreads / 32;  // a stage is free when every multiplying warp of both says so

template <int BN>
struct Layout {
  static constexpr int kWeightBytes = BN * kBlockK * 2, kStageBytes = kXBytes + kWeightBytes;
  static constexpr int kStages = BN == 256 ? 4 : 6;
  static constexpr int kBytes = kStages * kStageBytes + 1024;  // for alignment
};

template <int BN>
struct Ring {
  std::uint64_t full[Layout<BN>::kStages], empty[Layout<BN>::kStages];
};

struct Work {
  int first_m, first_n, rank;  // rank in the cluster
  int part, blocks_per_part, blocks;

  __device__ int k(int block) const { return block / blocks_per_part * part + block % blocks_per_part * kBlockK; }
};

__device__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
// Arrives at the barrier that lies at the same place in block `rank` of the cluster.
__device__ void arrive_in_cluster(std::uint64_t* bar, int rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(shared_address(bar)),
      "r"(rank)
      : "memory");
}
__device__ void barrier_wait_cluster(std::uint64_t* bar, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "WAIT:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\n"
      "bra WAIT;\n"
      "DONE:\n"
      "}" ::"r"(shared_address(bar)),
      "r"(parity)
      : "memory");
}
__device__ void copy_rows(std::uint32_t to, const CUtensorMap* map, int k, int row, std::uint64_t* bar) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
          to),
      "l"(map), "r"(k), "r"(row), "r"(shared_address(bar))
      : "memory");
}
// Into the same place of both blocks of the cluster.
__device__ void copy_weights(std::uint32_t to, const CUtensorMap* map, int group, int stripe, std::uint64_t* bar) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, "
      "%3, "
      "%4}], [%5], %6;" ::"r"(to),
      "l"(map), "r"(0), "r"(group), "r"(stripe), "r"(shared_address(bar)), "h"(static_cast<std::uint16_t>(3))
      : "memory");
}

template <int BN>
__device__ void produce(const CUtensorMap* x, const CUtensorMap* weight, const Work& w, std::uint32_t base,
                        Ring<BN>& ring) {
  using L = Layout<BN>;
  constexpr int kHalf = BN / 8 / kCluster;  // stripes that this block fetches
  for (int block = 0; block < w.blocks; ++block) {
    const int stage = block % L::kStages, k = w.k(block);
    const std::uint32_t at = base + stage * L::kStageBytes;
    if (block >= L::kStages) barrier_wait_cluster(&ring.empty[stage], (block / L::kStages - 1) & 1);
    barrier_expect(&ring.full[stage], L::kStageBytes);
    copy_rows(at, x, k, w.first_m, &ring.full[stage]);
    copy_weights(at + kXBytes + w.rank * (L::kWeightBytes / kCluster), weight, k / 8, w.first_n / 8 + w.rank * kHalf,
                 &ring.full[stage]);
  }
}

template <int BN>
__device__ void release(Ring<BN>& ring, int block) {
  if (block < 0) return;
  const int lane = threadIdx.x % 32;
  if (lane < kCluster) arrive_in_cluster(&ring.empty[block % Layout<BN>::kStages], lane);
}

// Sums of 1, 2 and 4 parts that wait for their neighbours: the balanced tree.
template <int N>
__device__ void finish_part(int part, bool last, float (&acc)[N], float (&pending)[3][N]) {
  int level = 0;
  for (; part >> level & 1; ++level)
#pragma unroll
    for (int i = 0; i < N; ++i) acc[i] = pending[level][i] + acc[i];
  if (last) return;
#pragma unroll
  for (int i = 0; i < N; ++i) pending[level][i] = acc[i], acc[i] = 0;
}

template <int BN, bool kParts>
__device__ void consume(const LinearArgs& a, const Work& w, std::uint32_t base, Ring<BN>& ring) {
  using L = Layout<BN>;
  const int thread = threadIdx.x % kGroupThreads, group = threadIdx.x / kGroupThreads - 1, lane = thread % 32;
  float acc[BN / 2];
#pragma unroll
  for (int i = 0; i < BN / 2; ++i) acc[i] = 0;
  float pending[3][kParts ? BN / 2 : 1];
  int part = 0, inside = 0;
  for (int block = 0; block < w.blocks; ++block) {
    const int stage = block % L::kStages;
    const std::uint32_t at = base + stage * L::kStageBytes;
    barrier_wait(&ring.full[stage], (block / L::kStages) & 1);
    const std::uint64_t x = swizzled_descriptor(at + group * (kXBytes / 2));
    const std::uint64_t weight = tiled_descriptor(at + kXBytes, kBlockK * 16);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kBlockK / 16; ++step)
      wgmma_k16<BN>(acc, x + step * (32 >> 4), weight + step * (256 >> 4));
    wgmma_commit();
    if constexpr (kParts) {
      if (++inside == w.blocks_per_part) {
        wgmma_wait<0>();
        finish_part(part++, block + 1 == w.blocks, acc, pending);
        inside = 0;
      } else {
        wgmma_wait<1>();
      }
    } else {
      wgmma_wait<1>();
    }
    release(ring, block - 1);
  }
  wgmma_wait<0>();
  const bf16* bias = static_cast<const bf16*>(a.bias);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int m = w.first_m + group * 64 + thread / 32 * 16 + half * 8 + lane / 4;
    if (m >= a.rows.count()) continue;
    bf16* y = static_cast<bf16*>(a.y) + static_cast<std::int64_t>(m) * a.out_features;
#pragma unroll
    for (int j = 0; j < BN / 8; ++j) {
      const int n = w.first_n + j * 8 + lane % 4 * 2;
      if (n >= a.out_features) continue;
      float s0 = acc[j * 4 + half * 2], s1 = acc[j * 4 + half * 2 + 1];
      if (bias) s0 = s0 + load(bias[n]), s1 = s1 + load(bias[n + 1]);
      *reinterpret_cast<__nv_bfloat162*>(y + n) = __floats2bfloat162_rn(s0, s1);
    }
  }
}

template <int BN, bool kParts>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    linear_wgmma_kernel(LinearArgs a, const __grid_constant__ CUtensorMap x,
                        const __grid_constant__ CUtensorMap weight) {
  using L = Layout<BN>;
  extern __shared__ unsigned char dynamic[];
  __shared__ Ring<BN> ring;
  follow_previous();
  const std::uint32_t base = (shared_address(dynamic) + 1023) / 1024 * 1024;
  const int rank = static_cast<int>(blockIdx.x) % kCluster;
  if ((static_cast<int>(blockIdx.x) - rank) * kBlockM >= a.rows.count()) return;  // of both blocks
  Work w{static_cast<int>(blockIdx.x) * kBlockM, static_cast<int>(blockIdx.y) * BN, rank};
  w.part = a.in_features / a.sum_parts;
  w.blocks_per_part = w.part / kBlockK;
  w.blocks = w.blocks_per_part * a.sum_parts;
  if (threadIdx.x == 0) {
    for (int i = 0; i < L::kStages; ++i) {
      barrier_init(&ring.full[i], 1);
      barrier_init(&ring.empty[i], kReleases);
    }
    barrier_fence_init();
  }
  cluster_sync();
  if (threadIdx.x < kGroupThreads) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0) produce<BN>(&x, &weight, w, base, ring);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    consume<BN, kParts>(a, w, base, ring);
  }
  __syncwarp();
  cluster_sync();  // the other block may still write to this one's memory and barriers
}

using Encode = decltype(&cuTensorMapEncodeTiled);
Encode encoder() {
  static const Encode found = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result);
    return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(entry) : nullptr;
  }();
  return found;
}

struct Dimension {
  std::int64_t size, stride_bytes;
  int box;
};

bool encode(CUtensorMap& map, const void* at, std::initializer_list<Dimension> dimensions, CUtensorMapSwizzle swizzle) {
  if (!encoder()) return false;  // an old driver
  cuuint64_t sizes[3], strides[3];
  cuuint32_t boxes[3], steps[3];
  cuuint32_t rank = 0;
  for (const Dimension& d : dimensions) {
    sizes[rank] = static_cast<cuuint64_t>(d.size), strides[rank] = static_cast<cuuint64_t>(d.stride_bytes);
    boxes[rank] = static_cast<cuuint32_t>(d.box), steps[rank++] = 1;
  }
  return encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<void*>(at), sizes, strides + 1, boxes,
                   steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <int BN, bool kParts>
void launch(const LinearArgs& a, cudaStream_t stream) {
  CUtensorMap x, weight;
  const std::int64_t k = a.in_features, n = a.out_features;
  if (!encode(x, a.x, {{k, 0, kBlockK}, {a.rows.most, k * 2, kBlockM}}, CU_TENSOR_MAP_SWIZZLE_128B) ||
      !encode(weight, a.weight, {{64, 0, 64}, {k / 8, 128, kBlockK / 8}, {(n + 7) / 8, k * 16, BN / 8 / kCluster}},
              CU_TENSOR_MAP_SWIZZLE_NONE))
    return linear_mma(a, stream);  // the same bits
  cudaFuncSetAttribute(linear_wgmma_kernel<BN, kParts>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       Layout<BN>::kBytes);
  const int m = (a.rows.most + kBlockM - 1) / kBlockM;
  const dim3 grid(static_cast<unsigned>((m + kCluster - 1) / kCluster * kCluster),
                  static_cast<unsigned>((n + BN - 1) / BN));
  launch_kernel(linear_wgmma_kernel<BN, kParts>, grid, kThreads, Layout<BN>::kBytes, stream, a, x, weight);
}

}  // namespace

bool linear_wgmma_accepts(const LinearArgs& a) {
  const int part = a.in_features / a.sum_parts;
  return a.element == Element::bf16 && !a.tiles && a.rows.most > 64 && part % kBlockK == 0 && a.out_features % 2 == 0;
}

void linear_wgmma(const LinearArgs& a, cudaStream_t stream) {
  a.sum_parts > 1 ? launch<128, true>(a, stream) : launch<256, false>(a, stream);
}

}  // namespace cajal::cuda
