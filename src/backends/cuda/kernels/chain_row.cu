// chain for one row. Four warps multiply by wgmma, whose sums wait 21 clocks for each other where those of mma.sync wait 34,
// with weights straight from the ring. Its 64 rows are up to four tiles of 16 outputs, or the eight parts of 8 outputs: each of
// its eight columns is then a part of the row, and of a part's products that with its own column counts.
//
// The assembler wants to see that threads are together around wgmma, or it makes each wait for the one before: so waits end for
// all of a warp at once, and what loops depend on passes through `uniform`.
#include "backends/cuda/kernels/chain_row_ring.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kNormGroups = 4;  // of eight numbers, a thread

__device__ inline bool left_out(const ChainArgs& a, const ChainLinear& linear) {
  return linear.result == ChainResult::logits && a.logits_rows.count() == 0;
}
// Whether others of this launch read it.
__device__ inline bool shared_result(const ChainLinear& linear) {
  return linear.result == ChainResult::residual || linear.result == ChainResult::silu_mul;
}
__device__ inline const uint4* row_to_read(const ChainLinear& linear, std::int64_t copy_apart) {
  const auto* x = static_cast<const unsigned char*>(linear.x);
  return reinterpret_cast<const uint4*>(linear.exchanged ? x + blockIdx.x % kChainCopies * copy_apart : x);
}

// v[i] = eight elements at from(i), for i < count, once they are there.
template <int N, class From>
__device__ __forceinline__ void poll(uint4 (&v)[N], int count, bool exchanged, const From& from) {
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (i < count) v[i] = load_shared_data(from(i));
#pragma unroll 1
  for (Patience patience; exchanged; patience.spend()) {
    bool again = false;
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i < count && bf16_missing(v[i])) v[i] = load_shared_data(from(i)), again = true;
    if (!__any_sync(~0u, again)) return;
  }
}

// The row, normed, in the order of rms_norm: a thread is one of its kSumLanes lanes.
__device__ __forceinline__ void stage_normed(const RowOp& op, float epsilon, std::int64_t copy_apart) {
  static_assert(kRowConsumers == kSumLanes);
  const int at = static_cast<int>(threadIdx.x), groups = op.linear.in_features / 8;
  const int mine = (groups - at + kSumLanes - 1) / kSumLanes;
  const uint4* from = row_to_read(op.linear, copy_apart);
  const auto* weight = reinterpret_cast<const uint4*>(chain_memory + op.norm_at);
  auto* x = reinterpret_cast<uint4*>(chain_memory + op.x_at);
  float* squares = row_shared().squares;
  uint4 v[kNormGroups];
  poll(v, mine, op.linear.exchanged, [&](int i) { return from + at + i * kSumLanes; });
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kNormGroups; ++i)
    if (i < mine) sum = add_squares(v[i].w, add_squares(v[i].z, add_squares(v[i].y, add_squares(v[i].x, sum))));
  sum = warp_sum(sum);
  if (at % 32 == 0) squares[at / 32] = sum;
  sync_row();
  const float4 s = *reinterpret_cast<const float4*>(squares);
  const float factor = norm_factor((s.x + s.y) + (s.z + s.w), op.linear.in_features, epsilon);
#pragma unroll
  for (int i = 0; i < kNormGroups; ++i) {
    if (i >= mine) break;
    const uint4 by = weight[at + i * kSumLanes];
    x[at + i * kSumLanes] = {normed(v[i].x, factor, by.x), normed(v[i].y, factor, by.y), normed(v[i].z, factor, by.z),
                             normed(v[i].w, factor, by.w)};
  }
}

// The row as it is: its parts side by side, as the columns of a matrix.
__device__ __forceinline__ void stage_plain(const RowOp& op, std::int64_t copy_apart) {
  constexpr int kAtOnce = 4;
  const uint4* from = row_to_read(op.linear, copy_apart);
  auto* x = reinterpret_cast<uint4*>(chain_memory + op.x_at);
  const int groups = op.linear.in_features / 8, part_groups = op.part_k / 8, shift = op.linear.parts == 8 ? 3 : 0;
#pragma unroll 1
  for (int base = 0; base < groups; base += kAtOnce * kRowConsumers) {
    const int first = base + static_cast<int>(threadIdx.x);
    const int count = min(kAtOnce, (groups - first + kRowConsumers - 1) / kRowConsumers);
    uint4 v[kAtOnce];
    poll(v, count, op.linear.exchanged, [&](int i) {
      const int at = first + i * kRowConsumers;
      return from + (at & ((1 << shift) - 1)) * part_groups + (at >> shift);
    });
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
      if (i < count) x[first + i * kRowConsumers] = v[i];
  }
}

__device__ inline std::uint64_t descriptor_of(std::uint32_t low, std::uint32_t high) {
  return low | static_cast<std::uint64_t>(high) << 32;
}
// A stage's pieces, 128 bytes from eight of k to the next and `stage_k` times 16 from piece to piece.
__device__ inline std::uint64_t stage_descriptor(const Ring& ring, int stage_k) {
  return descriptor_of(static_cast<std::uint32_t>(uniform(static_cast<int>(ring.address() / 16 | 128 / 16 << 16))),
                       static_cast<std::uint32_t>(stage_k));
}

__device__ inline bool is_full(const Ring& ring) {
  std::uint32_t done;
  asm volatile("{\n.reg .pred p;\nmbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
               : "=r"(done)
               : "r"(shared_address(row_shared().full + ring.barrier())), "r"(ring.parity())
               : "memory");
  return done != 0;
}
__device__ inline void wait_full(const Ring& ring) {
  std::uint32_t done = 0;
  while (!done)  // not wait_or_trap: the compiler must see the loop
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done)
                 : "r"(shared_address(row_shared().full + ring.barrier())), "r"(ring.parity())
                 : "memory");
}
__device__ inline void leave(int barrier) {  // after all of the warp
  if (barrier >= 0 && threadIdx.x % 32 == 0) barrier_arrive(row_shared().empty + barrier);
}

// What all batches of an operation share, worked out before its row is there.
struct Product {
  int stage_k, part_k, span, pieces, parts;
  std::uint64_t b;
  __device__ explicit Product(const RowOp& op)
      : stage_k(uniform(op.stage_k)),
        part_k(uniform(op.part_k)),
        span(uniform(op.span)),
        pieces(uniform(op.pieces)),
        parts(uniform(op.linear.parts)) {
    const auto at = static_cast<int>((shared_address(chain_memory) + op.x_at) / 16);
    b = descriptor_of(static_cast<std::uint32_t>(uniform(at | parts << 16)), 1);
  }
};

// All stages of a batch. With one part, the row's next numbers stand in the other columns, which nobody reads. The stage after
// the one at hand is looked for early.
template <int kParts>
__device__ __forceinline__ void multiply(Ring& ring, const Product& p, int together, float (&d)[4]) {
  const int slots = slots_of(together * p.pieces, p.stage_k);
  std::uint64_t b = p.b;
  int last = -1;
#pragma unroll
  for (int i = 0; i < 4; ++i) d[i] = 0;
  ring.enter(slots, p.span);
  wait_full(ring);
  std::uint64_t a = stage_descriptor(ring, p.stage_k);
#pragma unroll 1
  for (int left = p.part_k; left > 0; left -= p.stage_k) {
    const int steps = min(left, p.stage_k) / 16, here = ring.barrier();
    ring.pass(slots);
    Ring ahead = ring;
    ahead.enter(slots, p.span);
    const bool there = is_full(ahead);
    const std::uint64_t next = stage_descriptor(ahead, p.stage_k);
#pragma unroll 1
    for (int i = 0; i < steps / 8; ++i) {
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < 8; ++j) wgmma_k16<8>(d, a + 16 * j, b + 2 * kParts * j);
      a += 16 * 8, b += 2 * kParts * 8;
    }
#pragma unroll 1
    for (int i = 0; i < steps % 8; ++i) {
      wgmma_fence();
      wgmma_k16<8>(d, a, b);
      a += 16, b += 2 * kParts;
    }
    wgmma_commit();
    wgmma_wait<1>();
    leave(last);
    last = here;
    a = next;
    const bool more = left > p.stage_k;
    ring.slot = more ? ahead.slot : ring.slot, ring.position = more ? ahead.position : ring.position;
    if (more && !__all_sync(~0u, there)) wait_full(ring);
  }
  wgmma_wait<0>();
  leave(last);
}

// Which outputs of a batch a thread has: of parts, one of the tile's; otherwise two of its warp's tile, 8 apart. What others
// read is written kChainCopies times, each by other threads: so many blocks ask for the same lines at once.
struct Mine {
  int tile, n, copy;
  bool any;
  __device__ Mine(const RowOp& op, const Share& share, int batch) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const bool parts = op.linear.parts > 1;
    static_assert(kChainCopies == 4);
    copy = parts ? lane / 8 : lane % 4;
    tile = share.tile(parts ? batch : batch + warp), n = parts ? tile * 8 + lane % 8 : tile * 16 + lane / 4;
    any = (parts ? warp == 0 : batch + warp < share.count) && (copy == 0 || shared_result(op.linear));
  }
};

// What a thread's results are added to, if anything.
struct Previous {
  const bf16* from = nullptr;
  bool two = false;
  std::uint32_t value[2] = {};

  __device__ Previous(const RowOp& op, const Mine& mine) {
    if (op.linear.result != ChainResult::residual || !mine.any) return;
    from = static_cast<const bf16*>(op.linear.previous) + mine.n, two = op.linear.parts == 1;
    ask();
  }
  __device__ void ask() {
    if (from) value[0] = load_one(from);
    if (from && two) value[1] = load_one(from + 8);
  }
  __device__ void wait(bool exchanged) {
#pragma unroll 1
    for (Patience patience; exchanged && __any_sync(~0u, value[0] == 0xffff || value[1] == 0xffff); patience.spend())
      ask();
  }
  __device__ static std::uint32_t load_one(const bf16* from) {
    std::uint16_t v;
    asm volatile("ld.relaxed.gpu.global.u16 %0, [%1];" : "=h"(v) : "l"(from) : "memory");
    return v;
  }
};

// Of one output; `to` is where the row is to be.
__device__ __forceinline__ void finish(const ChainLinear& linear, bf16* to, int n, float sum, std::uint32_t previous) {
  if (linear.bias) sum = sum + load(static_cast<const bf16*>(linear.bias)[n]);
  if (linear.result == ChainResult::residual) sum = Pair(previous).low + Pair(pack(sum, 0)).low;
  put(to + n, sum);
}

// All tiles of this block, whose row lies in shared memory.
__device__ __forceinline__ void run_tiles(Ring& ring, const RowOp& op, const Share& share, const Product& product,
                                          Previous previous, std::int64_t copy_apart) {
  const ChainLinear& linear = op.linear;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int all = uniform(share.count), step = uniform(op.together);
  const bool adds = uniform(linear.result == ChainResult::residual) != 0;
#pragma unroll 1
  for (int batch = 0; batch < all; batch += step) {
    const Mine mine(op, share, batch);
    bf16* to = reinterpret_cast<bf16*>(static_cast<unsigned char*>(linear.y) + mine.copy * copy_apart);
    if (product.parts > 1) {
      // Rows 0 to 7 of a warp are part 2 warp, and column 2 warp is that part of the row; rows 8 to 15 the next.
      float d[4];
      multiply<8>(ring, product, 1, d);
      float(&sums)[kRowWarps][8] = row_shared().sums[batch & 1];
      if (lane % 4 == warp) sums[warp][lane / 4] = d[0] + d[3];
      sync_row();
      const float sum = (sums[0][lane % 8] + sums[1][lane % 8]) + (sums[2][lane % 8] + sums[3][lane % 8]);
      if (mine.any) finish(linear, to, mine.n, sum, previous.value[0]);
    } else {
      float d[4];
      multiply<1>(ring, product, min(step, all - batch), d);
      const float low = __shfl_sync(~0u, d[0], lane & ~3), high = __shfl_sync(~0u, d[2], lane & ~3);
      if (mine.any && linear.result == ChainResult::silu_mul) {
        const Pair both(pack(low, high));
        put(to + mine.tile * 8 + lane / 4, Pair(pack(silu(both.low), 0)).low * both.high);
      } else if (mine.any) {
        finish(linear, to, mine.n, low, previous.value[0]);
        finish(linear, to, mine.n + 8, high, previous.value[1]);
      }
    }
    if (batch + step >= all || !adds) continue;
    previous = Previous(op, Mine(op, share, batch + step));
    previous.wait(linear.exchanged);
    sync_row();
  }
}

__device__ inline void clean_copies(unsigned char* first, std::int64_t bytes, std::int64_t copy_apart) {
#pragma unroll 1
  for (int copy = 0; copy < kChainCopies; ++copy) {
    auto* to = reinterpret_cast<uint4*>(first + copy * copy_apart);
#pragma unroll 1
    for (std::int64_t i = blockIdx.x * kRowConsumers + threadIdx.x; i < bytes / 16; i += gridDim.x * kRowConsumers)
      to[i] = {~0u, ~0u, ~0u, ~0u};
  }
}

// By one thread: all norms' weights, then everything that goes through the ring.
__device__ inline void produce_row(const ChainArgs& a, const RowPlan& plan) {
  std::uint64_t* norm = &row_shared().norm;
  RowProducer producer(plan);
  const int linears = a.num_linears;
  std::uint32_t all = 0;
#pragma unroll 1
  for (int i = 0; i < linears; ++i)
    if (plan.ops[i].linear.norm) all += static_cast<std::uint32_t>(plan.ops[i].linear.in_features) * 2;
  barrier_expect(norm, all);
#pragma unroll 1
  for (int i = 0; i < linears; ++i) {
    const ChainLinear& linear = plan.ops[i].linear;
    if (linear.norm)
      copy_bulk(chain_memory + plan.ops[i].norm_at, linear.norm, static_cast<std::uint32_t>(linear.in_features) * 2,
                norm);
  }
#pragma unroll 1
  for (int i = 0; i < linears; ++i) {
    const RowOp op = plan.ops[i];
    if (!left_out(a, op.linear)) producer.feed(op);
  }
}

__global__ void __launch_bounds__(kRowThreads, 1)
    chain_row_kernel(const __grid_constant__ ChainArgs a, const __grid_constant__ RowPlan plan) {
  Shared& shared = row_shared();
  let_next_begin();
  if (uniform(static_cast<int>(threadIdx.x) / kRowConsumers) > 0) {
    // Weights are asked for before anything else: one thread does all that this needs.
    if (threadIdx.x == kRowConsumers) {
#pragma unroll 1
      for (int i = 0; i < kStages; ++i) barrier_init(shared.full + i, 1), barrier_init(shared.empty + i, kRowWarps);
      barrier_init(&shared.norm, 1);
      barrier_fence_init();
    }
    __syncwarp();
    asm volatile("bar.arrive 2, %0;" ::"n"(kRowThreads) : "memory");
    if (threadIdx.x == kRowConsumers) produce_row(a, plan);
    return;
  }
  static_assert(sizeof(plan.ops) % 4 == 0);
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(sizeof(plan.ops) / 4); i += kRowConsumers)
    reinterpret_cast<std::uint32_t*>(shared.ops)[i] = reinterpret_cast<const std::uint32_t*>(plan.ops)[i];
  asm volatile("bar.sync 2, %0;" ::"n"(kRowThreads) : "memory");
  // Read now: what lies in a launch's parameters is far away at first.
  const int linears = a.num_linears;
  const float epsilon = a.epsilon;
  const std::int64_t copy_apart = a.copy_apart, clean_bytes = a.clean_bytes;
  auto* const clean = static_cast<unsigned char*>(a.clean);
  Ring ring{plan.slots, plan.reach};
  wait_or_trap(&shared.norm, 0);
  sync_row();
  wait_for_previous();
#pragma unroll 1
  for (int i = 0; i < linears; ++i) {
    const RowOp op = shared.ops[i];
    if (uniform(left_out(a, op.linear))) break;
    const Share share(op);
    if (uniform(share.count) > 0) {
      const Product product(op);
      Previous previous(op, Mine(op, share, 0));  // on its way while the row is awaited
      if (op.linear.norm)
        stage_normed(op, epsilon, copy_apart);
      else
        stage_plain(op, copy_apart);
      previous.wait(op.linear.exchanged);
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // wgmma may read the row
      sync_row();
      run_tiles(ring, op, share, product, previous, copy_apart);
    }
    if (i == 0 && clean) clean_copies(clean, clean_bytes, copy_apart);
  }
}

int round_128(int bytes) { return (bytes + 127) / 128 * 128; }

RowPlan make_row_plan(const ChainArgs& a, int grid, int shared_bytes) {
  RowPlan plan{};
  int x_bytes[2] = {0, 0}, norms = 0, tiles = a.first_block;
  for (int i = 0; i < a.num_linears; ++i) {
    RowOp& op = plan.ops[i];
    const ChainLinear& l = op.linear = a.linears[i];
    const bool pair = l.result == ChainResult::silu_mul, parts = l.parts > 1;
    const int count = l.out_features / (parts ? 8 : 16);
    op.part_k = l.in_features / l.parts, op.stage_k = !parts ? 256 : op.part_k > 256 ? 128 : op.part_k;
    op.pieces = parts ? l.parts : 2, op.together = parts ? 1 : 4;
    op.tile_step = parts || pair ? 1 : 2;
    op.span = slots_of(8, op.stage_k);
    op.piece_apart = parts ? std::int64_t{op.part_k} * 8 : std::int64_t{pair ? count : 1} * l.in_features * 8;
    op.first = tiles % grid, op.each = count / grid, op.rest = count % grid;
    tiles = (tiles + count) % grid;
    x_bytes[i % 2] = l.in_features * 2 > x_bytes[i % 2] ? l.in_features * 2 : x_bytes[i % 2];
    if (l.norm) norms += round_128(l.in_features * 2);
  }
  // Rows of neighbouring operations lie apart, so that one may be written while the other is still read. Behind a row there are
  // seven vectors that count for nothing.
  const int behind = norms + round_128(x_bytes[0]) + round_128(x_bytes[1]) + 2 * 128;
  plan.slots = (shared_bytes - a.spare_bytes - kRowStateBytes - behind) / kSlotBytes;
  plan.slots = plan.slots < kMostSlots ? plan.slots : kMostSlots;
  plan.reach = plan.slots + behind / kSlotBytes;
  int at = kRowStateBytes + plan.slots * kSlotBytes;
  const int x_at[2] = {at, at + round_128(x_bytes[0]) + 128};
  at = x_at[1] + round_128(x_bytes[1]) + 128;
  for (int i = 0; i < a.num_linears; ++i) {
    plan.ops[i].x_at = x_at[i % 2], plan.ops[i].norm_at = at;
    if (plan.ops[i].linear.norm) at += round_128(plan.ops[i].linear.in_features * 2);
  }
  plan.shared_bytes = at;
  return plan;
}

}  // namespace

bool chain_row_accepts(const ChainArgs& a) {
  constexpr int kSharedBytes = 227 * 1024;  // of a block on sm_90
  constexpr std::int64_t kMostBytes = 64 << 20;
  std::int64_t bytes = 0;
  if (a.tokens.most != 1) return false;
  for (int i = 0; i < a.num_linears; ++i) {
    const ChainLinear& l = a.linears[i];
    if (l.parts != 1 && l.parts != 8) return false;
    if (l.parts == 1 && l.in_features > kNormGroups * kSumLanes * 8) return false;  // it may be normed
    if (l.result != ChainResult::logits) bytes += std::int64_t{2} * l.in_features * l.out_features;
  }
  constexpr int kMostNorms = 2 * kNormGroups * kSumLanes * 8 * 2;
  return bytes <= kMostBytes && make_row_plan(a, 1, kSharedBytes - kMostNorms).slots >= kLeastSlots;
}

void chain_row(const ChainArgs& a, cudaStream_t stream) {
  const RowPlan plan = make_row_plan(a, multiprocessors(), shared_bytes());
  cudaFuncSetAttribute(chain_row_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes);
  // A multiprocessor divides its memory anew only when it is idle: all that are to overlap want the same.
  cudaFuncSetAttribute(chain_row_kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                       cudaSharedmemCarveoutMaxShared);
  launch_kernel(chain_row_kernel, static_cast<unsigned>(multiprocessors()), kRowThreads,
                static_cast<std::size_t>(plan.shared_bytes), stream, a, plan);
}

}  // namespace cajal::cuda
