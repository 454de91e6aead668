#pragma once
// What the parts of decode_persistent share: a ring of slots in shared memory that one warp fills by bulk copies and eight
// empty, who does which unit of an operation, and how activations pass between multiprocessors.
//
// Data is its own flag: every element of an exchange buffer is all ones before its step, which no conversion to bf16 and no
// f32 operation gives (their NaNs are 0x7fff and 0x7fffffff). Readers load 16 bytes at a time until none is all ones. So
// there is no fence, no counter and no barrier between multiprocessors, and a torn vector is just one that is not there yet.
#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/persistent.h"

namespace cajal::cuda {

// Eight warps consume; a thread produces, another plans.
constexpr int kConsumers = 8, kConsumerThreads = kConsumers * 32, kDecodeThreads = kConsumerThreads + 64;
constexpr int kSlotBytes = 8192, kSlotK = 256;  // 16 rows of weights by 256 of k
constexpr int kMostSlots = 27, kLeastSlots = 9;

// Waits that cannot end are errors of ours: better a trap after some seconds than a device that hangs.
class Patience {
 public:
  __device__ void spend() {
    if (++tries_ > kMost) __trap();
  }

 private:
  static constexpr unsigned kMost = 1u << 22;
  unsigned tries_ = 0;
};

__device__ inline void wait_or_trap(std::uint64_t* bar, int parity) {
#pragma unroll 1
  for (Patience patience;; patience.spend()) {
    std::uint32_t done;
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done)
                 : "r"(shared_address(bar)), "r"(parity)
                 : "memory");
    if (done) return;
  }
}

__device__ inline void sync_consumers() { asm volatile("bar.sync 1, %0;" ::"n"(kConsumerThreads) : "memory"); }
__device__ inline void sync_some(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// 16 bytes as other multiprocessors wrote them.
__device__ inline uint4 load_shared_data(const void* from) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}
// Whether a half of any of these words is all ones.
__device__ inline bool bf16_missing(const uint4& v) {
  const auto ones = [](std::uint32_t w) { return (~w - 0x00010001u) & w; };
  return ((ones(v.x) | ones(v.y) | ones(v.z) | ones(v.w)) & 0x80008000u) != 0;
}

// v[i] = eight elements at from(i), for i < count, once they are there.
template <int N, class From>
__device__ void poll(uint4 (&v)[N], int count, bool wait, const From& from) {
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (i < count) v[i] = load_shared_data(from(i));
#pragma unroll 1
  for (Patience patience; wait; patience.spend()) {
    bool again = false;
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i < count && bf16_missing(v[i])) v[i] = load_shared_data(from(i)), again = true;
    if (!again) return;
  }
}

// One linear operation: 16 outputs of one part of k are a task; the tasks of a tile go to neighbouring warps of one block.
struct Linear {
  const bf16* weight;
  int tiles, parts, shift, in_features, part_k, chunks;  // parts = 1 << shift
  int second;  // stripes of 8 rows from the first of a tile to the second; the first is tile * step
  int step;

  __device__ int length(int chunk) const { return min(kSlotK, part_k - chunk * kSlotK); }
};

// Units of all operations are dealt to the blocks in turn, on and on, so that nobody is last twice.
struct Share {
  int first = 0, count = 0;
};
struct Dealer {
  int base = 0;
  __device__ Share deal(int units) {
    const int grid = static_cast<int>(gridDim.x);
    int first = static_cast<int>(blockIdx.x) - base;
    if (first < 0) first += grid;
    base = (base + units) % grid;
    return {first, first < units ? (units - first + grid - 1) / grid : 0};
  }
};

__device__ inline Linear make_linear(const void* weight, int out_features, int in_features, int parts, bool pair) {
  const int shift = (parts >= 2) + (parts >= 4) + (parts >= 8), tiles = out_features / 16,
            part_k = in_features >> shift;
  return {static_cast<const bf16*>(weight),
          tiles,
          parts,
          shift,
          in_features,
          part_k,
          (part_k + kSlotK - 1) / kSlotK,
          pair ? tiles : 1,
          pair ? 1 : 2};
}

// Rows that an operation reads: row r is at from + map(r) * columns.
struct Activations {
  const bf16* from;
  int columns, rows;
  bool wait;         // for what other blocks write in this launch
  const int* map;    // or null: row r
  const void* norm;  // weight of the norm before the operation, or null
  float epsilon;

  __device__ const bf16* row(int r) const { return from + static_cast<std::int64_t>(map ? map[r] : r) * columns; }
};

enum class Epilogue : std::uint8_t { store, residual, silu_mul, logits };
struct Output {
  Epilogue kind;
  bf16* y;
  int columns;
  const void* bias;      // or null
  const bf16* previous;  // residual: what the result is added to, like y
};

// All that consumers need to know of one linear operation, and of the attention before it if it is the one after that. A
// thread that does nothing else writes it down ahead of them: what they would fetch themselves they would wait for.
struct Phase {
  Linear op;
  Share share;
  Activations in;
  Output out;
  // attention
  Share units, items;
  int layer, window;
  const void *q_norm, *k_norm;
  void *k_cache, *v_cache;
};

struct DecodeShared {
  std::uint64_t full[kMostSlots], empty[kMostSlots];
  float sums[kConsumers][16][16];  // of tasks that are parts: [output][token]
  float squares[kConsumers];
  alignas(128) unsigned char q[2][16 * 128 * 2];
  std::uint32_t results[2][4];
  std::uint64_t ready;  // load_step() is done
  int filled;
  int planned, begun;  // phases that are written down; the phase before which no consumer still is
  Phase phases[2];
  int merged[kMostWindows][kMostDecodeRows + 1];  // rows of several pieces before each
  int units[kMostWindows][kMostDecodeRows + 1];   // attention: units of the rows before each
  int position[kMostDecodeRows], sequence[kMostDecodeRows], slot[kMostDecodeRows], wanted[kMostDecodeRows];
  float piece_m[2][4][16], piece_l[2][4][16];
};

// Shared memory: what is above, the slots, the activations. Places that are constants take no registers.
extern __shared__ __align__(1024) unsigned char decode_memory[];
constexpr int kStateBytes = (static_cast<int>(sizeof(DecodeShared)) + 1023) / 1024 * 1024;
__device__ inline DecodeShared& decode_shared() { return *reinterpret_cast<DecodeShared*>(decode_memory); }

// Slots are filled in the order of one sequence of positions: position p lies in slot p % count and is its round p / count.
// `filled` says how many positions the producer has asked for: a barrier's parity tells neighbouring rounds apart and no
// others, so nobody looks at a barrier before its round has begun.
struct Ring {
  int count;
  __device__ std::uint32_t slot(int i) const { return shared_address(decode_memory) + kStateBytes + i * kSlotBytes; }
  __device__ std::uint64_t* full(int i) const { return decode_shared().full + i; }
  __device__ std::uint64_t* empty(int i) const { return decode_shared().empty + i; }
  __device__ volatile int& filled() const { return decode_shared().filled; }
};

struct Cursor {
  int position, slot, round;
  __device__ Cursor(const Ring& ring, int p) : position(p), slot(p % ring.count), round(p / ring.count) {}
  __device__ void advance(const Ring& ring, int by) {  // by at most ring.count
    position += by, slot += by;
    if (slot >= ring.count) slot -= ring.count, ++round;
  }
};
// What is known of Ring::filled.
struct Known {
  int filled = 0;
};
__device__ inline std::uint32_t wait_full(const Ring& ring, Known& known, const Cursor& c) {
  for (Patience patience; known.filled <= c.position; patience.spend()) known.filled = ring.filled();
  wait_or_trap(ring.full(c.slot), c.round & 1);
  return ring.slot(c.slot);
}
__device__ inline void release(const Ring& ring, const Cursor& c) {  // by one thread, after all of its warp
  barrier_arrive(ring.empty(c.slot));
}

// Where an operation's results lie: [rows, columns] of each layer, twice.
__host__ __device__ inline std::int64_t exchange_layer_elements(const DecodeArgs& a) {
  const std::int64_t columns =
      std::int64_t{2} * (a.num_heads + a.num_kv_heads) * a.head_dim + 2 * a.hidden + a.intermediate;
  return columns * a.tokens.most;
}
struct Exchange {
  const DecodeArgs& a;
  int half;

  __device__ int qkv_columns() const { return (a.num_heads + 2 * a.num_kv_heads) * a.head_dim; }
  __device__ int attention_columns() const { return a.num_heads * a.head_dim; }
  __device__ bf16* qkv(int layer) const {
    return reinterpret_cast<bf16*>(a.exchange) +
           static_cast<std::int64_t>(half * a.num_layers + layer) * a.exchange_elements;
  }
  __device__ bf16* attention(int layer) const { return qkv(layer) + a.tokens.most * qkv_columns(); }
  __device__ bf16* middle(int layer) const { return attention(layer) + a.tokens.most * attention_columns(); }
  __device__ bf16* activated(int layer) const { return middle(layer) + a.tokens.most * a.hidden; }
  __device__ bf16* out(int layer) const { return activated(layer) + a.tokens.most * a.intermediate; }
};

}  // namespace cajal::cuda
