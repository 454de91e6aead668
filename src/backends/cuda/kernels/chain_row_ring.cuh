#pragma once
// What the two sides of chain_row share: how the host has worked its operations out, and a ring of slots in shared memory that
// one thread fills with weights and four warps empty together. A stage is some of k for all outputs that are multiplied at
// once; it lies in neighbouring slots, since one descriptor names them all.
#include "backends/cuda/kernels/chain_row.h"
#include "backends/cuda/kernels/chain_stage.cuh"

namespace cajal::cuda {

constexpr int kRowWarps = 4, kRowConsumers = kRowWarps * 32, kRowThreads = kRowConsumers + 32;
constexpr int kStages = 32;  // barriers; at least as many as there are slots
static_assert(kStages >= kMostSlots);

// A tile is 16 outputs, two stripes of them; where there are parts, 8 outputs: their stripe's parts take the place of stripes.
struct RowOp {
  ChainLinear linear;
  std::int32_t part_k, stage_k;
  std::int32_t pieces, together;   // of a tile: stripes or parts; tiles that are multiplied at once
  std::int32_t tile_step;          // stripes from tile to tile
  std::int32_t span;               // slots that wgmma reads from a stage's first on, whatever lies there
  std::int64_t piece_apart;        // elements from piece to piece
  std::int32_t first, each, rest;  // dealing, as ChainOp has it
  std::int32_t x_at, norm_at;      // in shared memory
};
struct RowPlan {
  RowOp ops[kMostChainLinears];
  std::int32_t slots, reach;  // wgmma may read as many slots as `reach`, though there be other things
  std::int32_t shared_bytes;
};

struct Shared {
  std::uint64_t full[kStages], empty[kStages], norm;
  alignas(16) float squares[kRowWarps];
  float sums[2][kRowWarps][8];
  std::int32_t ends[kStages];  // of stages: the positions behind them
  alignas(16) RowOp ops[kMostChainLinears];
};
constexpr int kRowStateBytes = (static_cast<int>(sizeof(Shared)) + 127) / 128 * 128;
__device__ inline Shared& row_shared() { return *reinterpret_cast<Shared*>(chain_memory); }

// Where stages lie, which both sides work out alike. Positions count slots, those that are passed over too.
struct Ring {
  int slots, reach, stage = 0, position = 0, slot = 0;
  __device__ void enter(int count, int span) {
    if (slot + count > slots || slot + span > reach) position += slots - slot, slot = 0;
  }
  __device__ void pass(int count) { position += count, slot += count, ++stage; }
  __device__ std::uint32_t address() const { return shared_address(chain_memory) + kRowStateBytes + slot * kSlotBytes; }
  __device__ int barrier() const { return stage & (kStages - 1); }
  __device__ int parity() const { return stage / kStages & 1; }
};
__host__ __device__ inline int slots_of(int pieces, int stage_k) {
  return (pieces * stage_k * 16 + kSlotBytes - 1) / kSlotBytes;
}

// By one thread: all weights of this block's share.
class RowProducer {
 public:
  __device__ explicit RowProducer(const RowPlan& plan) : ring_{plan.slots, plan.reach} {
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy_));
  }

  __device__ void feed(const RowOp& op) {
    const Share share(op);
    const auto* weight = static_cast<const bf16*>(op.linear.weight);
    const std::int64_t row = op.linear.in_features;
#pragma unroll 1
    for (int batch = 0; batch < share.count; batch += op.together) {
      const int together = min(op.together, share.count - batch), slots = slots_of(together * op.pieces, op.stage_k);
#pragma unroll 1
      for (int k = 0; k < op.part_k; k += op.stage_k) {
        const auto bytes = static_cast<std::uint32_t>(min(op.stage_k, op.part_k - k)) * 16;
        std::uint32_t to = begin(slots, op.span, together * op.pieces * bytes);
#pragma unroll 1
        for (int i = 0; i < together; ++i) {
          const bf16* from = weight + (share.tile(batch + i) * op.tile_step * row + k) * 8;
#pragma unroll 1
          for (int piece = 0; piece < op.pieces; ++piece, from += op.piece_apart, to += op.stage_k * 16)
            copy(to, from, bytes);
        }
        ring_.pass(slots);
      }
    }
  }

 private:
  // Waits until there is room for the stage.
  __device__ std::uint32_t begin(int slots, int span, std::uint32_t bytes) {
    Shared& shared = row_shared();
    ring_.enter(slots, span);
#pragma unroll 1
    while (ring_.position + slots - freed_ > ring_.slots) {
      wait_or_trap(shared.empty + oldest_ % kStages, oldest_ / kStages & 1);
      freed_ = shared.ends[oldest_++ % kStages];
    }
    shared.ends[ring_.barrier()] = ring_.position + slots;
    barrier_expect(shared.full + ring_.barrier(), bytes);
    return ring_.address();
  }
  __device__ void copy(std::uint32_t to, const bf16* from, std::uint32_t bytes) const {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
            "r"(to),
        "l"(from), "r"(bytes), "r"(shared_address(row_shared().full + ring_.barrier())), "l"(policy_)
        : "memory");
  }

  Ring ring_;
  int oldest_ = 0, freed_ = 0;  // the oldest stage that may not be empty yet, and the position where it begins
  std::uint64_t policy_ = 0;    // what is read once a step should leave the cache first
};

__device__ inline void sync_row() { asm volatile("bar.sync 1, %0;" ::"n"(kRowConsumers) : "memory"); }

}  // namespace cajal::cuda
