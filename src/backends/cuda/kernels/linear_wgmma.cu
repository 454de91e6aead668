// linear_wgmma: tiles of 128 rows by BN outputs. One warpgroup copies blocks of 64 k into a ring (rows of x one 16-byte chunk a
// thread, so that they may be gathered; weights in bulk, as they are packed), two multiply 64 rows each.
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kBlockM = 128, kBlockK = 64, kGroupThreads = 128, kThreads = 3 * kGroupThreads;
constexpr int kXBytes = kBlockM * kBlockK * 2;

template <int BN>
struct Layout {
  static constexpr int kStageBytes = kXBytes + BN * kBlockK * 2;
  static constexpr int kStages = BN == 256 ? 4 : 6;
  static constexpr int kBytes = kStages * kStageBytes + 1024;  // for alignment
};

struct Work {
  const bf16 *x, *weight;
  int begin, end, first_n;
  int part, blocks_per_part, blocks;

  __device__ int k(int block) const { return block / blocks_per_part * part + block % blocks_per_part * kBlockK; }
  __device__ int valid(int block) const { return min(kBlockK, part - block % blocks_per_part * kBlockK); }
};

template <int BN>
struct Ring {
  std::uint64_t full[Layout<BN>::kStages], empty[Layout<BN>::kStages];
};

// The copying warpgroup.
template <int BN>
__device__ void produce(const LinearArgs& a, const Work& w, std::uint32_t base, Ring<BN>& ring) {
  using L = Layout<BN>;
  constexpr int kLag = 2, kChunks = kBlockM * 8 / kGroupThreads;
  const int thread = threadIdx.x % kGroupThreads, warp = thread / 32;
  const int chunk = thread % 8, row0 = thread / 8;  // this thread's chunk of rows row0, row0 + 16, ...
  const bf16* rows[kChunks];
  bool there[kChunks];
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    const int m = w.begin + row0 + i * 16;
    there[i] = m < w.end;
    rows[i] = w.x + static_cast<std::int64_t>(there[i] ? (a.x_rows ? a.x_rows[m] : m) : 0) * a.in_features + chunk * 8;
  }
  const int stripes = min(BN / 8, (a.out_features + 7) / 8 - w.first_n / 8);
  const bf16* weight = w.weight + static_cast<std::int64_t>(w.first_n) * a.in_features;
  const auto arrive = [&](int block) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    barrier_arrive(&ring.full[block % L::kStages]);
  };
  for (int block = 0; block < w.blocks; ++block) {
    const int stage = block % L::kStages, k = w.k(block), valid = w.valid(block);
    const std::uint32_t at = base + stage * L::kStageBytes;
    if (block >= L::kStages) barrier_wait(&ring.empty[stage], (block / L::kStages - 1) & 1);
    if (warp == 0) {
      const auto bytes = static_cast<std::uint32_t>(valid) * 16;
      if (thread == 0) barrier_expect(&ring.full[stage], bytes * stripes);
      __syncwarp();
      for (int s = thread; s < stripes; s += 32)
        copy_bulk_to(at + kXBytes + s * (kBlockK * 16), weight + (static_cast<std::int64_t>(s) * a.in_features + k) * 8,
                     bytes, &ring.full[stage]);
    }
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int row = row0 + i * 16;
      copy_async_16(at + row * 128 + ((chunk ^ (row & 7)) * 16), rows[i] + (there[i] ? k : 0),
                    there[i] && chunk * 8 < valid);
    }
    copy_async_commit();
    if (block >= kLag) {
      copy_async_wait<kLag>();
      arrive(block - kLag);
    }
  }
  copy_async_wait<0>();
  for (int block = max(0, w.blocks - kLag); block < w.blocks; ++block) arrive(block);
}

template <int BN, bool kParts>
__device__ void consume(const LinearArgs& a, const Work& w, std::uint32_t base, Ring<BN>& ring) {
  using L = Layout<BN>;
  const int thread = threadIdx.x % kGroupThreads, group = threadIdx.x / kGroupThreads - 1, lane = thread % 32;
  float acc[BN / 2];
#pragma unroll
  for (int i = 0; i < BN / 2; ++i) acc[i] = 0;
  float pending[kParts ? 3 : 1][BN / 2];  // sums of 1, 2 and 4 parts that wait for their neighbours
  int part = 0, inside = 0;
  for (int block = 0; block < w.blocks; ++block) {
    const int stage = block % L::kStages, valid = w.valid(block);
    const std::uint32_t at = base + stage * L::kStageBytes;
    barrier_wait(&ring.full[stage], (block / L::kStages) & 1);
    const std::uint64_t x = swizzled_descriptor(at + group * (kXBytes / 2)),
                        weight = tiled_descriptor(at + kXBytes, kBlockK * 16);
    wgmma_fence();
    if (valid == kBlockK) {
#pragma unroll
      for (int step = 0; step < kBlockK / 16; ++step)
        wgmma_k16<BN>(acc, x + step * (32 >> 4), weight + step * (256 >> 4));
    } else {
      for (int step = 0; step * 16 < valid; ++step)
        wgmma_k16<BN>(acc, x + step * (32 >> 4), weight + step * (256 >> 4));
    }
    wgmma_commit();
    if (kParts && ++inside == w.blocks_per_part) {
      wgmma_wait<0>();
      if (block > 0) barrier_arrive(&ring.empty[(block - 1) % L::kStages]);
      inside = 0;
      int level = 0;
      for (; part >> level & 1; ++level)
#pragma unroll
        for (int i = 0; i < BN / 2; ++i) acc[i] = pending[level][i] + acc[i];
      ++part;
      if (block + 1 < w.blocks)
#pragma unroll
        for (int i = 0; i < BN / 2; ++i) pending[level][i] = acc[i], acc[i] = 0;
    } else {
      wgmma_wait<1>();
      if (block > 0) barrier_arrive(&ring.empty[(block - 1) % L::kStages]);
    }
  }
  wgmma_wait<0>();
  const bf16* bias = static_cast<const bf16*>(a.bias);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int m = w.begin + group * 64 + thread / 32 * 16 + half * 8 + lane / 4;
    if (m >= w.end) continue;
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
__global__ void __launch_bounds__(kThreads, 1) linear_wgmma_kernel(LinearArgs a) {
  using L = Layout<BN>;
  extern __shared__ unsigned char dynamic[];
  __shared__ Ring<BN> ring;
  const std::uint32_t base = (shared_address(dynamic) + 1023) / 1024 * 1024;
  Work w{static_cast<const bf16*>(a.x), static_cast<const bf16*>(a.weight)};
  if (a.tiles) {
    if (static_cast<int>(blockIdx.x) >= *a.num_tiles) return;
    const GroupTile tile = a.tiles[blockIdx.x];
    w.weight += tile.group * a.group_elements;
    w.begin = tile.begin, w.end = tile.end;
  } else {
    w.begin = static_cast<int>(blockIdx.x) * kBlockM;
    w.end = min(w.begin + kBlockM, a.rows.count());
    if (w.begin >= w.end) return;
  }
  w.first_n = static_cast<int>(blockIdx.y) * BN;
  w.part = a.in_features / a.sum_parts;
  w.blocks_per_part = (w.part + kBlockK - 1) / kBlockK;
  w.blocks = w.blocks_per_part * a.sum_parts;
  if (threadIdx.x == 0) {
    for (int i = 0; i < L::kStages; ++i) {
      barrier_init(&ring.full[i], kGroupThreads + 1);
      barrier_init(&ring.empty[i], 2 * kGroupThreads);
    }
    barrier_fence_init();
  }
  __syncthreads();
  if (threadIdx.x < kGroupThreads) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
    produce<BN>(a, w, base, ring);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    consume<BN, kParts>(a, w, base, ring);
  }
}

template <int BN, bool kParts>
void launch(const LinearArgs& a, cudaStream_t stream) {
  cudaFuncSetAttribute(linear_wgmma_kernel<BN, kParts>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       Layout<BN>::kBytes);
  const int m = a.tiles ? a.most_tiles : (a.rows.most + kBlockM - 1) / kBlockM;
  const dim3 grid(static_cast<unsigned>(m), static_cast<unsigned>((a.out_features + BN - 1) / BN));
  linear_wgmma_kernel<BN, kParts><<<grid, kThreads, Layout<BN>::kBytes, stream>>>(a);
}

}  // namespace

bool linear_wgmma_accepts(const LinearArgs& a) {
  const bool rows = a.tiles ? a.tile_rows == kBlockM : a.rows.most > 64;
  return a.element == Element::bf16 && rows && a.in_features % 8 == 0 && a.in_features / a.sum_parts % 16 == 0 &&
         a.out_features % 2 == 0;
}

void linear_wgmma(const LinearArgs& a, cudaStream_t stream) {
  a.sum_parts > 1 ? launch<128, true>(a, stream) : launch<256, false>(a, stream);
}

}  // namespace cajal::cuda
