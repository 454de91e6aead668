#pragma once
// What the parts of chain share: a ring of slots in shared memory that one thread fills by bulk copies and eight warps empty,
// and who does which tile of an operation. Activations pass between multiprocessors as exchange.cuh has it.
#include <cstddef>

#include "backends/cuda/kernels/chain.h"
#include "backends/cuda/kernels/exchange.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/mma.cuh"

namespace cajal::cuda {

constexpr int kConsumers = 8, kConsumerThreads = kConsumers * 32, kChainThreads = kConsumerThreads + 32;
constexpr int kSlotBytes = 8192, kSlotK = 256;  // 16 rows of weights by 256 of k
constexpr int kMostSlots = 27, kLeastSlots = 9;
constexpr int kTileStride = 20;  // of a token's 16 sums in shared memory: rows in different banks

// One linear operation as the host has worked it out. 16 outputs of one part of k are a task; the tasks of a tile go to
// neighbouring warps of one block.
struct ChainOp {
  ChainLinear linear;
  std::int32_t shift;  // parts = 1 << shift
  std::int32_t part_k, chunks;
  std::int32_t second, step;  // stripes of 8 outputs: from the first of a tile to the second; from tile to tile
  std::int32_t columns;       // of y
  std::int32_t first, each,
      rest;  // dealing: block first + i has tile i, and so on in turn; each has `each`, the first `rest` one more
  std::int32_t pass, last_pass;  // columns whose activations lie in shared memory at a time, and in the last pass
  std::uint32_t reciprocal, last_reciprocal;  // of eighths of those
};
struct ChainPlan {
  ChainOp ops[kMostChainLinears];
  std::int32_t slots;
  std::int32_t norm_bytes;  // of a norm's weights there
  std::int32_t shared_bytes;
};

struct ChainShared {
  std::uint64_t full[kMostSlots], empty[kMostSlots], norm;
  float sums[kConsumers][16 * kTileStride];        // of a task: [token][output]
  alignas(16) bf16 previous[kConsumers][16 * 16];  // of a tile: [token][output]
  float squares[16][4], factors[16];
  int wanted[kMostChainRows];
  int filled, slots;
  alignas(16) ChainOp ops[kMostChainLinears];  // what lies in a launch's parameters is far away at first
};

// Shared memory: what is above, the slots, weights of a norm, the activations.
extern __shared__ __align__(128) unsigned char chain_memory[];
constexpr int kStateBytes = (static_cast<int>(sizeof(ChainShared)) + 127) / 128 * 128;
constexpr int kFilledAt = offsetof(ChainShared, filled), kFullAt = offsetof(ChainShared, full),
              kEmptyAt = offsetof(ChainShared, empty);
__device__ inline ChainShared& chain_shared() { return *reinterpret_cast<ChainShared*>(chain_memory); }

__device__ inline unsigned char* norm_memory(const ChainPlan& plan) {
  return chain_memory + kStateBytes + plan.slots * kSlotBytes;
}

__device__ inline bool barrier_done(std::uint64_t* bar, int parity) {
  std::uint32_t done;
  asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
               : "=r"(done)
               : "r"(shared_address(bar)), "r"(parity)
               : "memory");
  return done != 0;
}
__device__ inline void wait_or_trap(std::uint64_t* bar, int parity) {
#pragma unroll 1
  for (Patience patience; !barrier_done(bar, parity); patience.spend()) {
  }
}

__device__ inline void sync_consumers() { asm volatile("bar.sync 1, %0;" ::"n"(kConsumerThreads) : "memory"); }
__device__ inline void sync_some(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Slots are filled in the order of one sequence of positions: position p lies in slot p % count and is its round p / count.
// `filled` says how many positions the producer has asked for: a barrier's parity tells neighbouring rounds apart and no
// others, so nobody looks at a barrier before its round has begun.
struct Cursor {
  int position, slot, round;
  __device__ Cursor(int p, int count) : position(p), slot(p % count), round(p / count) {}
  __device__ void advance(int by, int count) {  // by at most `count`
    position += by, slot += by;
    if (slot >= count) slot -= count, ++round;
  }
  __device__ std::uint32_t address(std::uint32_t base) const { return base + kStateBytes + slot * kSlotBytes; }
};
// What is known of a slot: asked for early, looked at when the answer has long come. `base` is where chain_memory begins.
struct Probe {
  std::uint32_t done;
  int filled;
  __device__ Probe(std::uint32_t base, const Cursor& c) {
    asm volatile("ld.volatile.shared.s32 %0, [%1];" : "=r"(filled) : "r"(base + kFilledAt) : "memory");
    asm volatile("{\n.reg .pred p;\nmbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done)
                 : "r"(base + kFullAt + c.slot * 8), "r"(c.round & 1)
                 : "memory");
  }
  __device__ bool full(const Cursor& c) const { return done != 0 && filled > c.position; }
};
__device__ inline void wait_full(const Cursor& c) {
  volatile int& filled = chain_shared().filled;
#pragma unroll 1
  for (Patience patience; filled <= c.position; patience.spend()) {
  }
  wait_or_trap(chain_shared().full + c.slot, c.round & 1);
}

// Tiles first, first + gridDim.x, ... of an operation: dealt on from where the operation before ended.
struct Share {
  int first, count;
  template <class Op>
  __device__ explicit Share(const Op& op) {
    first = static_cast<int>(blockIdx.x) - op.first;
    if (first < 0) first += static_cast<int>(gridDim.x);
    count = op.each + (first < op.rest ? 1 : 0);
  }
  __device__ int tile(int i) const { return first + i * static_cast<int>(gridDim.x); }
};

// By one thread: all weights of this block's share, in the order in which its warps will want them.
template <bool kBeside>
class Producer {
 public:
  __device__ Producer(const ChainPlan& plan) : slots_(plan.slots), cursor_(0, plan.slots) {
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy_));
  }

  __device__ void feed(const ChainOp& op) {
    const Share share(op);
    const int tasks = share.count << op.shift, parts = 1 << op.shift;
    const auto* weight = static_cast<const bf16*>(op.linear.weight);
    const std::int64_t apart = static_cast<std::int64_t>(op.second) * op.linear.in_features * 8;
#pragma unroll 1
    for (int batch = 0; batch < tasks; batch += kConsumers) {
      const int together = min(kConsumers, tasks - batch);
#pragma unroll 1
      for (int k = 0; k < op.part_k; k += kSlotK) {
        const auto bytes = static_cast<std::uint32_t>(min(kSlotK, op.part_k - k)) * 16;
#pragma unroll 1
        for (int task = batch; task < batch + together; ++task) {
          const int tile = share.tile(task >> op.shift);
          const int column = (task & (parts - 1)) * op.part_k + k;
          const bf16* from = weight + (static_cast<std::int64_t>(tile) * op.step * op.linear.in_features + column) * 8;
          ask(from, from + apart, bytes);
        }
      }
    }
  }

 private:
  __device__ void ask(const bf16* from, const bf16* second, std::uint32_t bytes) {
    ChainShared& shared = chain_shared();
    if constexpr (kBeside)
      if (cursor_.position == kAhead) wait_for_previous();
    if (cursor_.round > 0) wait_or_trap(shared.empty + cursor_.slot, (cursor_.round - 1) & 1);
    std::uint64_t* full = shared.full + cursor_.slot;
    const std::uint32_t to = cursor_.address(shared_address(chain_memory));
    barrier_expect(full, 2 * bytes);
    copy(to, from, bytes, full);
    copy(to + kSlotBytes / 2, second, bytes, full);
    cursor_.advance(1, slots_);
    *const_cast<volatile int*>(&shared.filled) = cursor_.position;
  }
  __device__ void copy(std::uint32_t to, const bf16* from, std::uint32_t bytes, std::uint64_t* full) const {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
            "r"(to),
        "l"(from), "r"(bytes), "r"(shared_address(full)), "l"(policy_)
        : "memory");
  }

  // Attention that runs beside the launch waits behind the weights that are asked for meanwhile: a full ring doubled its time.
  static constexpr int kAhead = 8;

  int slots_;
  Cursor cursor_;
  std::uint64_t policy_ = 0;  // what is read once a step should leave the cache first
};

}  // namespace cajal::cuda
