#pragma once
// What the parts of moe_chain share: a ring of stages of weights in shared memory, filled by four warps and emptied by eight, which
// all pass all stages in the same order; and the buffers through which multiprocessors tell each other their results (exchange.cuh).
//
// Code is data too: what runs once a launch is fetched anew each time. So there is one copy of everything that is used twice.
#include "backends/cuda/kernels/exchange.cuh"
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/moe_chain.h"

namespace cajal::cuda::moe_chain_parts {

constexpr int kConsumers = 8, kConsumerThreads = kConsumers * 32, kFeeders = 4;
constexpr int kThreads = kConsumerThreads + kFeeders * 32;
// A piece is a stripe of 8 outputs by up to kPieceK of k; a stage holds twelve of those, or sixteen of kDownK.
constexpr int kPieceK = 128, kPieceBytes = kPieceK * 16, kStagePieces = 12, kStageBytes = kStagePieces * kPieceBytes;
constexpr int kMostStages = 8, kUnderWay = 2, kDownK = 96, kBatchUnits = 6, kBatchTiles = 8;
constexpr int kMostExperts = 128;
constexpr int kMostChoices = 8, kMostPairs = kMostMoeChainRows * kMostChoices;

// Which pairs (row, choice) go through which expert: pairs sorted by expert, and tiles of them.
struct ChainPlan {
  GroupTile tiles[kMostPairs];
  std::int32_t ids[kMostPairs], pair[kMostPairs];  // by pair; by sorted place
  std::int32_t num_tiles;
};

// Not mma.cuh's: around wgmma the compiler must see the loop.
__device__ inline void wait_barrier(std::uint64_t* bar, int parity) {
  std::uint32_t done = 0;
  while (!done)
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done)
                 : "r"(shared_address(bar)), "r"(parity)
                 : "memory");
}

struct Shared {
  std::uint64_t full[kMostStages], empty[kMostStages], planned;
  float squares[kConsumers];
  float products[2][kMostPairs][16];  // by pair
  bf16 weights[kMostPairs];
  ChainPlan plan;
  float logits[kMostExperts], chosen[kMostChoices];  // of one row, and the probabilities of its choices
  alignas(16) unsigned keys[kMostExperts];
};

// Shared memory: what is above, the ring, what attention made and later the experts' inner activations, the normed rows.
extern __shared__ __align__(1024) unsigned char moe_chain_memory[];
constexpr int kStateBytes = (static_cast<int>(sizeof(Shared)) + 1023) / 1024 * 1024;
__device__ inline Shared& chain_shared() { return *reinterpret_cast<Shared*>(moe_chain_memory); }
__device__ inline std::uint32_t stage_address(int stage) {
  return shared_address(moe_chain_memory) + kStateBytes + stage * kStageBytes;
}

// Where a warp is in the ring.
struct Walk {
  int stages, stage = 0, parity = 0;
  __device__ void next() {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};

// The side that empties.
struct Drain {
  Walk walk;

  __device__ std::uint32_t wait() const {
    wait_barrier(&chain_shared().full[walk.stage], walk.parity);
    return stage_address(walk.stage);
  }
  __device__ void leave(int stage) const {  // after all of the warp
    if (threadIdx.x % 32 == 0) barrier_arrive(&chain_shared().empty[stage]);
  }
  __device__ void next() { walk.next(); }
};

__device__ inline void sync_consumers() { asm volatile("bar.sync 1, %0;" ::"n"(kConsumerThreads) : "memory"); }

// Results that all multiprocessors read: two sets, of which a launch works in one and cleans the other for the next launch.
struct Exchange {
  bf16 *middle, *out, *inner, *logits;  // [rows, hidden], [rows, hidden], [pairs, intermediate], [rows, experts]
};
__host__ __device__ inline std::int64_t exchange_elements(const MoeChainArgs& a) {
  return std::int64_t{a.rows.most} * (2 * a.hidden + a.top_k * a.intermediate + a.num_experts);
}
__device__ inline Exchange exchange_of(const MoeChainArgs& a, int set) {
  bf16* at = reinterpret_cast<bf16*>(a.exchange) + set * exchange_elements(a);
  bf16 *out = at + a.rows.most * a.hidden, *inner = out + a.rows.most * a.hidden;
  return {at, out, inner, inner + a.rows.most * a.top_k * a.intermediate};
}

__device__ inline std::uint16_t get_one(const bf16* from) {
  std::uint16_t v;
  asm volatile("ld.relaxed.gpu.global.u16 %0, [%1];" : "=h"(v) : "l"(from) : "memory");
  return v;
}
// v[i] = eight elements at from(i), for i < count, once they are there.
template <int N, class From>
__device__ void poll(uint4 (&v)[N], int count, const From& from) {
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (i < count) v[i] = load_shared_data(from(i));
#pragma unroll 1
  for (Patience patience;; patience.spend()) {
    bool again = false;
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i < count && bf16_missing(v[i])) v[i] = load_shared_data(from(i)), again = true;
    if (!again) return;
  }
}

}  // namespace cajal::cuda::moe_chain_parts
