// moe_gate_up_grouped and moe_down_grouped, as linear_wgmma does it: weights are the rows and tokens the columns of wgmma's
// tiles. A block of threads takes 128 rows of weights of one expert and up to 256 of its tokens at a time; two warpgroups
// multiply 64 rows of weights each. Stripes of gate and up lie by turns, so that a thread holds both of an output.
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/moe_grouped.h"
#include "backends/cuda/kernels/moe_stream.cuh"
#include "backends/cuda/kernels/tensor_map.h"
#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kGroupThreads = 128, kGroups = 2, kThreads = (kGroups + 1) * kGroupThreads;
constexpr int kBlockK = 64, kStripeBytes = kBlockK * 16, kStripes = 16, kWeightBytes = kStripes * kStripeBytes;
constexpr int kTokens = 64, kTokenBytes = kTokens * kBlockK * 2;  // the width of tiles grows by so many tokens
constexpr int kChunkTokens = 32,
              kOutBytes = kChunkTokens * 128;  // pass through shared memory at a time on their way out
constexpr int kMostStages = 9, kSharedBytes = 224 * 1024;

struct Ring {
  std::uint64_t full[kMostStages], empty[kMostStages];
};

__host__ __device__ constexpr int stage_bytes(int tile_rows) {
  return tile_rows / kTokens * kTokenBytes + kWeightBytes;
}
__host__ __device__ constexpr int stages(int tile_rows) {
  const int fit = (kSharedBytes - kGroups * kOutBytes - 1024) / stage_bytes(tile_rows);
  return fit < kMostStages ? fit : kMostStages;
}

// Tiles of rows by tiles of outputs; blocks of threads take them by turns.
struct Items {
  const GroupTile* tiles;
  int count, out_tiles;

  // body(tile, which tile of outputs); the next tile is on its way meanwhile.
  template <class Body>
  __device__ void each(const Body& body) const {
    const auto fetch = [&](int item) {
      return item < count ? __ldcg(reinterpret_cast<const int4*>(tiles) + item / out_tiles) : int4{0, 0, 0, 0};
    };
    int4 tile = fetch(static_cast<int>(blockIdx.x));
    for (int item = static_cast<int>(blockIdx.x); item < count; item += static_cast<int>(gridDim.x)) {
      const int4 now = tile;
      tile = fetch(item + static_cast<int>(gridDim.x));
      body(GroupTile{now.x, now.y, now.z, 0}, item % out_tiles);
    }
  }
};

__device__ int widths(const GroupTile& tile) { return (tile.end - tile.begin + kTokens - 1) / kTokens; }

// Fills its part of each stage in turn: fetch(address of the stage, barrier, k, tile, tile of outputs).
template <int kRows, class Fetch>
__device__ void produce(const Items& items, int in_features, std::uint32_t base, Ring& ring, const Fetch& fetch) {
  int stage = 0, parity = 1;
  items.each([&](const GroupTile& tile, int out_tile) {
    for (int k = 0; k < in_features; k += kBlockK) {
      barrier_wait(&ring.empty[stage], parity);
      fetch(base + stage * stage_bytes(kRows), &ring.full[stage], k, tile, out_tile);
      if (++stage == stages(kRows)) stage = 0, parity ^= 1;
    }
  });
}

__device__ std::uint32_t pack(float lo, float hi) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(lo, hi);
  return *reinterpret_cast<const std::uint32_t*>(&both);
}
__device__ float gated(float gate, float up) { return rounded<bf16>(silu(rounded<bf16>(gate))) * rounded<bf16>(up); }

// What a warpgroup multiplies and writes.
template <bool kGateUp, int kRows>
class Consumer {
 public:
  __device__ Consumer(const MoeGroupedArgs& a, Ring& ring, std::uint32_t base, unsigned char* out, int group)
      : a_(a), ring_(ring), base_(base), out_(out), group_(group) {}

  template <int N>
  __device__ void run(const GroupTile& tile, int out_tile) {
    float acc[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) acc[i] = 0;
    int last = -1;
    for (int k = 0; k < a_.in_features; k += kBlockK) {
      barrier_wait(&ring_.full[stage_], parity_);
      const std::uint32_t at = base_ + stage_ * stage_bytes(kRows);
      const std::uint64_t x = swizzled_descriptor(at);
      const std::uint64_t weight =
          tiled_descriptor(at + kRows / kTokens * kTokenBytes + group_ * (kWeightBytes / kGroups), kStripeBytes);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < kBlockK / 16; ++step)
        wgmma_k16<N>(acc, weight + (step * 256 >> 4), x + (step * 32 >> 4));
      wgmma_commit();
      wgmma_wait<1>();
      if (last >= 0) release(last);
      last = stage_;
      if (++stage_ == stages(kRows)) stage_ = 0, parity_ ^= 1;
    }
    wgmma_wait<0>();
    release(last);
    write<N>(acc, tile, out_tile);
  }

 private:
  static constexpr int kColumns = kGateUp ? 4 : 8;  // groups of eight outputs of a warpgroup

  __device__ void release(int stage) {
    if (threadIdx.x % 32 == 0) barrier_arrive(&ring_.empty[stage]);
  }
  __device__ void wait_for_group() const { asm volatile("bar.sync %0, 128;" ::"r"(group_ + 1) : "memory"); }

  // acc[4 j + e] is token 8 j + lane % 4 * 2 + e % 2 and row lane / 4 + e / 2 * 8 of the warp's 16 rows of weights.
  template <int N>
  __device__ void to_shared(const float (&acc)[N / 2], int chunk) {
    const int warp = static_cast<int>(threadIdx.x) % kGroupThreads / 32, lane = static_cast<int>(threadIdx.x) % 32;
    constexpr int kStep = kGateUp ? 4 : 2;  // groups of eight tokens at once
#pragma unroll
    for (int j = 0; j < kChunkTokens / 8; j += kStep) {
      std::uint32_t r[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int i = (chunk * (kChunkTokens / 8) + j + (kGateUp ? e : e / 2)) * 4;
        if constexpr (kGateUp)
          r[e] = pack(gated(acc[i], acc[i + 2]), gated(acc[i + 1], acc[i + 3]));
        else
          r[e] = pack(acc[i + e % 2 * 2], acc[i + e % 2 * 2 + 1]);
      }
      const int token = (j + (kGateUp ? lane / 8 : lane / 16)) * 8 + lane % 8;
      const int column = kGateUp ? warp : warp * 2 + lane / 8 % 2;
      store_matrices_transposed(shared_address(out_) + row_of_128(token, column), r);
    }
  }

  template <int N>
  __device__ void write(const float (&acc)[N / 2], const GroupTile& tile, int out_tile) {
    const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
    const int width = kGateUp ? a_.out_features / 2 : a_.out_features;
    const int column = thread % kColumns, n = ((out_tile * kGroups + group_) * kColumns + column) * 8;
#pragma unroll
    for (int chunk = 0; chunk < N / kChunkTokens; ++chunk) {
      wait_for_group();
      to_shared<N>(acc, chunk);
      wait_for_group();
#pragma unroll
      for (int i = 0; i < kChunkTokens * kColumns / kGroupThreads; ++i) {
        const int token = i * (kGroupThreads / kColumns) + thread / kColumns;
        const int row = tile.begin + chunk * kChunkTokens + token;
        if (row < tile.end && n < width)
          *reinterpret_cast<uint4*>(static_cast<bf16*>(a_.y) + static_cast<std::int64_t>(row) * width + n) =
              *reinterpret_cast<const uint4*>(out_ + row_of_128(token, column));
      }
    }
  }

  const MoeGroupedArgs& a_;
  Ring& ring_;
  std::uint32_t base_;
  unsigned char* out_;
  int group_, stage_ = 0, parity_ = 0;
};

template <bool kGateUp, int kRows>
__device__ void consume(const MoeGroupedArgs& a, const Items& items, std::uint32_t base, Ring& ring,
                        unsigned char* out) {
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads - 1;
  Consumer<kGateUp, kRows> consumer(a, ring, base, out + group * kOutBytes, group);
  items.each([&](const GroupTile& tile, int out_tile) {
    if constexpr (kRows == kTokens) {
      consumer.template run<kTokens>(tile, out_tile);
    } else {
      switch (widths(tile)) {
        case 1: return consumer.template run<kTokens>(tile, out_tile);
        case 2: return consumer.template run<2 * kTokens>(tile, out_tile);
        case 3: return consumer.template run<3 * kTokens>(tile, out_tile);
        default: return consumer.template run<4 * kTokens>(tile, out_tile);
      }
    }
  });
}

template <bool kGateUp, int kRows>
__global__ void __launch_bounds__(kThreads, 1)
    moe_grouped_kernel(const __grid_constant__ MoeGroupedArgs a, const __grid_constant__ CUtensorMap x,
                       const __grid_constant__ CUtensorMap weight) {
  extern __shared__ unsigned char dynamic[];
  __shared__ Ring ring;
  const std::uint32_t start = shared_address(dynamic), base = (start + 1023) / 1024 * 1024;
  if (threadIdx.x == 0) {
    for (int i = 0; i < stages(kRows); ++i) {
      barrier_init(&ring.full[i], 2);
      barrier_init(&ring.empty[i], kGroups * kGroupThreads / 32);
    }
    barrier_fence_init();
  }
  __syncthreads();
  follow_previous();
  const int out_tiles = (a.out_features / 8 + kStripes - 1) / kStripes;
  const Items items{a.tiles, __ldcg(a.num_tiles) * out_tiles, out_tiles};
  if (threadIdx.x >= kGroupThreads) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    return consume<kGateUp, kRows>(a, items, base, ring, dynamic + (base - start) + stages(kRows) * stage_bytes(kRows));
  }
  asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
  if (threadIdx.x == 0)
    produce<kRows>(
        items, a.in_features, base, ring,
        [&](std::uint32_t at, std::uint64_t* full, int k, const GroupTile& tile, int out_tile) {
          constexpr int kWide = kGateUp ? kStripes / 2 : kStripes;
          barrier_expect(full, kWeightBytes);
          copy_tensor(at + kRows / kTokens * kTokenBytes, &weight, {0, k / 8, 0, out_tile * kWide, tile.group}, full);
        });
  if (threadIdx.x == 32)
    produce<kRows>(items, a.in_features, base, ring,
                   [&](std::uint32_t at, std::uint64_t* full, int k, const GroupTile& tile, int) {
                     const int count = widths(tile);
                     barrier_expect(full, count * kTokenBytes);
                     for (int i = 0; i < count; ++i)
                       copy_tensor(at + i * kTokenBytes, &x, k, tile.begin + i * kTokens, full);
                   });
}

template <bool kGateUp, int kRows>
bool launch(const MoeGroupedArgs& a, cudaStream_t stream) {
  CUtensorMap x, weight;
  constexpr std::int64_t kHalves = kGateUp ? 2 : 1;
  const std::int64_t k = a.in_features, stripes = a.out_features / 8 / kHalves;
  if (!make_tensor_map(x, a.x, {{k, 0, kBlockK}, {a.pairs.most, k * 2, kTokens}}, CU_TENSOR_MAP_SWIZZLE_128B) ||
      !make_tensor_map(weight, a.weight,
                       {{64, 0, 64},
                        {k / 8, 128, kBlockK / 8},
                        {kHalves, stripes * k * 16, static_cast<int>(kHalves)},
                        {stripes, k * 16, static_cast<int>(kStripes / kHalves)},
                        {a.num_experts, a.out_features * k * 2, 1}},
                       CU_TENSOR_MAP_SWIZZLE_NONE))
    return false;
  const int bytes = 1024 + stages(kRows) * stage_bytes(kRows) + kGroups * kOutBytes;
  cudaFuncSetAttribute(moe_grouped_kernel<kGateUp, kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  launch_kernel(moe_grouped_kernel<kGateUp, kRows>, static_cast<unsigned>(multiprocessors()), kThreads,
                static_cast<std::size_t>(bytes), stream, a, x, weight);
  return true;
}

}  // namespace

bool moe_grouped_accepts(const MoeGroupedArgs& a) {
  return a.in_features % kBlockK == 0 && a.out_features % 16 == 0 && (a.tile_rows == 64 || a.tile_rows == 256);
}
bool moe_gate_up_grouped(const MoeGroupedArgs& a, cudaStream_t stream) {
  return a.tile_rows == 64 ? launch<true, 64>(a, stream) : launch<true, 256>(a, stream);
}
bool moe_down_grouped(const MoeGroupedArgs& a, cudaStream_t stream) {
  return a.tile_rows == 64 ? launch<false, 64>(a, stream) : launch<false, 256>(a, stream);
}

}  // namespace cajal::cuda
