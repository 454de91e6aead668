#include "backends/cuda/kernels/chain_row.h"
#include "backends/cuda/kernels/chain_stage.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace cajal::cuda {
namespace {

template <bool kTwo>
struct Fragments {
  std::uint32_t w[2][4], low[4], high[kTwo ? 4 : 1];
};

// A task, or the part of it for which there are activations: slots from `cursor` on, `apart` from one to the next. Weights are
// the 16 rows of m16n8k16 and tokens its columns: the class does not mind which operand stands where.
template <bool kTwo>
struct Task {
  Cursor cursor;
  int slots, apart, steps;  // steps: of 32 of k in all slots
  std::uint32_t base;       // of shared memory
  std::uint32_t x, x_high;  // this lane's addresses of the activations of tokens 0 to 7 and 8 to 15
  float sums[kTwo ? 2 : 1][4];
  std::uint32_t at;

  __device__ void fetch(Fragments<kTwo>& f, int ahead) {
    ldmatrix_x4(f.w[0], at + ahead * 512);
    ldmatrix_x4(f.low, x + ahead * 64);
    if constexpr (kTwo) ldmatrix_x4(f.high, x_high + ahead * 64);
    ldmatrix_x4(f.w[1], at + ahead * 512 + 256);
  }
  __device__ void multiply(const Fragments<kTwo>& f) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      mma_16816(sums[0], f.w[half], f.low[2 * half], f.low[2 * half + 1]);
      if constexpr (kTwo) mma_16816(sums[kTwo], f.w[half], f.high[2 * half], f.high[2 * half + 1]);
    }
  }
  __device__ void enter(bool there) {
    const int lane = threadIdx.x % 32;
    if (!there) wait_full(cursor);
    at = cursor.address(base) + (lane / 8 & 1) * (kSlotBytes / 2) + lane / 16 * 128 + lane % 8 * 16;
  }
  __device__ void release(int slot) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0)
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(base + kEmptyAt + slot * 8) : "memory");
  }
  __device__ void pass(int count) { at += count * 512, x += count * 64, x_high += count * 64; }

  // The next fragments are always on their way while the last are multiplied, from slot to slot: two sets that take turns. A
  // slot is given back before the next is waited for: eight warps that hold one each would leave a short ring little to fetch
  // into. All slots but the last of a part are full.
  __device__ void run() {
    constexpr int kFull = kSlotK / 32;
    Fragments<kTwo> f, g;
    enter(false);
    fetch(f, 0);
#pragma unroll 1
    for (;;) {
      const int here = min(steps, kFull), done = cursor.slot;
      steps -= here;
      cursor.advance(apart, slots);
      if (here == kFull) {
#pragma unroll
        for (int i = 1; i + 1 < kFull; i += 2) {
          fetch(g, i);
          multiply(f);
          fetch(f, i + 1);
          multiply(g);
        }
        fetch(g, kFull - 1);
      } else {
#pragma unroll 1
        for (int i = 1; i < here; ++i) {
          fetch(g, 1);
          multiply(f);
          f = g;
          pass(1);
        }
        pass(1 - kFull);
        g = f;
      }
      const Probe probe(base, cursor);
      if (here == kFull) multiply(f);
      pass(kFull);
      multiply(g);
      release(done);
      if (steps == 0) return;
      enter(probe.full(cursor));
      fetch(f, 0);
    }
  }
};

// What all consumers of a block know of the operation at hand.
struct Phase {
  ChainOp op;
  Share share;
  int rows, parts;
  __device__ Phase(const ChainOp& o, int r) : op(o), share(o), rows(r), parts(1 << o.shift) {}
  __device__ int tasks() const { return share.count << op.shift; }
  __device__ int tile(int task) const { return share.tile(task >> op.shift); }
};

// Where this lane finds its 16 bytes of what a tile's results are added to, if any.
__device__ inline const bf16* previous_at(const Phase& phase, int task) {
  const int lane = threadIdx.x % 32;
  if (phase.op.linear.result != ChainResult::residual || lane / 2 >= phase.rows) return nullptr;
  return static_cast<const bf16*>(phase.op.linear.previous) + static_cast<std::int64_t>(lane / 2) * phase.op.columns +
         phase.tile(task) * 16 + lane % 2 * 8;
}

// The parts of a tile as a balanced tree.
__device__ inline float sum_parts(const float* sums, int parts) {
  constexpr int kApart = 16 * kTileStride;
  float s[kConsumers];
#pragma unroll
  for (int i = 0; i < kConsumers; ++i) s[i] = i < parts ? sums[i * kApart] : 0.0f;
  if (parts == 2) return s[0] + s[1];
  const float low = (s[0] + s[1]) + (s[2] + s[3]);
  return parts == 4 ? low : low + ((s[4] + s[5]) + (s[6] + s[7]));
}

// Results of a tile, by the warps that have its parts together.
__device__ inline void finish(const Phase& phase, int task) {
  const ChainLinear& linear = phase.op.linear;
  const int warp = static_cast<int>(threadIdx.x) / 32, first = warp & ~(phase.parts - 1);
  const bool pair = linear.result == ChainResult::silu_mul;
  const int width = pair ? 3 : 4, base = phase.tile(task) << width;
  const float* sums = chain_shared().sums[first];
  const bf16* previous = chain_shared().previous[first];
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) - first * 32; i < phase.rows << width; i += phase.parts * 32) {
    const int token = i >> width, n = i & ((1 << width) - 1);
    const float* at = sums + token * kTileStride + n;
    float sum = phase.parts == 1 ? *at : sum_parts(at, phase.parts);
    if (linear.bias) sum = sum + load(static_cast<const bf16*>(linear.bias)[base + n]);
    if (pair) {
      const Pair both(pack(sum, at[8]));
      sum = Pair(pack(silu(both.low), 0)).low * both.high;
    }
    if (linear.result == ChainResult::residual) sum = load(previous[i]) + Pair(pack(sum, 0)).low;
    put(static_cast<bf16*>(linear.y) + static_cast<std::int64_t>(token) * phase.op.columns + base + n, sum);
  }
}

struct Block {
  int slots;
  std::uint32_t base;  // of shared memory
  int position = 0, norms = 0;
};

// By one thread: the weights of the next norm, from linear `i` on, into the memory that the last one has left.
__device__ inline void bring_norm(const ChainArgs& a, const ChainPlan& plan, int i) {
  while (i < a.num_linears && !plan.ops[i].linear.norm) ++i;
  if (i >= a.num_linears || (plan.ops[i].linear.result == ChainResult::logits && a.logits_rows.count() == 0)) return;
  const auto bytes = static_cast<std::uint32_t>(plan.ops[i].linear.in_features) * 2;
  barrier_expect(&chain_shared().norm, bytes);
  copy_bulk(norm_memory(plan), plan.ops[i].linear.norm, bytes, &chain_shared().norm);
}

// Columns begin .. begin + width of the operation's input, for all rows.
__device__ inline void stage(const ChainArgs& a, const ChainPlan& plan, const Phase& phase, int index, int begin,
                             uint4* x, int& norms) {
  const ChainOp& op = phase.op;
  const ChainLinear& linear = op.linear;
  const bool last = begin + op.pass >= linear.in_features;
  const Vectors vectors(last ? op.last_pass : op.pass, phase.rows, last ? op.last_reciprocal : op.reciprocal);
  sync_consumers();  // nobody reads the old activations any more
  gather({static_cast<const uint4*>(linear.x) + begin / 8, linear.in_features / 8, linear.result == ChainResult::logits,
          linear.exchanged},
         vectors, x);
  sync_consumers();
  if (!linear.norm) return;
  wait_or_trap(&chain_shared().norm, norms++ & 1);
  norm_rows(x, reinterpret_cast<const uint4*>(norm_memory(plan)), phase.rows, vectors, a.epsilon);
  sync_consumers();
  if (threadIdx.x == kConsumerThreads - 32) bring_norm(a, plan, index + 1);
}

template <bool kTwo>
__device__ __forceinline__ void consume(const ChainArgs& a, const ChainPlan& plan, const Phase& phase, Block& block,
                                        int index) {
  const ChainOp& op = phase.op;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int tasks = phase.tasks(), in_features = op.linear.in_features;
  bf16* x = reinterpret_cast<bf16*>(norm_memory(plan) + plan.norm_bytes);
#pragma unroll 1
  for (int batch = 0; batch < tasks; batch += kConsumers) {
    const int together = min(kConsumers, tasks - batch), task = batch + warp;
    const bool busy = warp < together;
    const int part = task & (phase.parts - 1);
    // On its way while the tile's activations are awaited.
    const bf16* from = busy && part == 0 ? previous_at(phase, task) : nullptr;
    uint4 previous = from ? load_shared_data(from) : uint4{};
    Task<kTwo> t{Cursor(block.position + warp, block.slots), block.slots, together, 0, block.base};
#pragma unroll 1
    for (int begin = 0; begin < in_features; begin += op.pass) {
      const int width = min(op.pass, in_features - begin);
      if (batch == 0 || op.pass < in_features)
        stage(a, plan, phase, index, begin, reinterpret_cast<uint4*>(x), block.norms);
      if (!busy) continue;
      const auto address = [&](int token) {
        return shared_address(x + min(token, phase.rows - 1) * (width + 8) + part * op.part_k + lane / 8 * 8);
      };
      t.x = address(lane % 8), t.x_high = address(lane % 8 + 8);
      t.steps = min(width, op.part_k) / 32;
      t.run();
    }
    block.position += together * op.chunks;
    if (!busy) continue;
    float* sums = chain_shared().sums[warp] + lane % 4 * 2 * kTileStride + lane / 4;
#pragma unroll
    for (int e = 0; e < (kTwo ? 8 : 4); ++e)
      sums[(e / 4 * 8 + e % 2) * kTileStride + e % 4 / 2 * 8] = t.sums[e / 4][e % 4];
#pragma unroll 1
    for (Patience patience; from && op.linear.exchanged && bf16_missing(previous); patience.spend())
      previous = load_shared_data(from);
    reinterpret_cast<uint4*>(chain_shared().previous[warp])[lane] = previous;
    sync_some(4 + (warp >> op.shift), phase.parts * 32);
    finish(phase, task);
    sync_some(4 + (warp >> op.shift), phase.parts * 32);
  }
  if (tasks > 0 || !op.linear.norm) return;
  wait_or_trap(&chain_shared().norm, block.norms++ & 1);  // of a norm that this block has no use for
  sync_consumers();
  if (threadIdx.x == kConsumerThreads - 32) bring_norm(a, plan, index + 1);
}

__device__ inline void clean(const ChainArgs& a) {
  uint4* to = static_cast<uint4*>(a.clean);
#pragma unroll 1
  for (std::int64_t i = blockIdx.x * kConsumerThreads + threadIdx.x; i < a.clean_bytes / 16;
       i += gridDim.x * kConsumerThreads)
    to[i] = {~0u, ~0u, ~0u, ~0u};
}

// By one thread: the first norm's weights, then everything that goes through the ring.
template <bool kBeside>
__device__ inline void produce(const ChainArgs& a, const ChainPlan& plan) {
  Producer<kBeside> producer(plan);
  bring_norm(a, plan, 0);
#pragma unroll 1
  for (int i = 0; i < a.num_linears; ++i) {
    if (plan.ops[i].linear.result == ChainResult::logits && a.logits_rows.count() == 0) continue;
    producer.feed(plan.ops[i]);
  }
}

template <bool kTwo, bool kBeside>
__device__ __forceinline__ void run_chain(const ChainArgs& a, const ChainPlan& plan) {
  ChainShared& shared = chain_shared();
  let_next_begin();
  if (threadIdx.x < plan.slots) {
    barrier_init(shared.full + threadIdx.x, 1);
    barrier_init(shared.empty + threadIdx.x, 1);
  }
  if (threadIdx.x == 0) barrier_init(&shared.norm, 1), shared.filled = 0, shared.slots = plan.slots;
  barrier_fence_init();
  __syncthreads();
  if (threadIdx.x >= kConsumerThreads) {
    if (threadIdx.x == kConsumerThreads) produce<kBeside>(a, plan);
    return;
  }
  // How many rows there are was known before any kernel of the step began.
  const int tokens = a.tokens.count(), logits_rows = a.logits_rows.count();
  if (threadIdx.x < logits_rows) shared.wanted[threadIdx.x] = a.logits_indices[threadIdx.x];
  static_assert(sizeof(plan.ops) / 4 <= kConsumerThreads);
  if (threadIdx.x < sizeof(plan.ops) / 4)
    reinterpret_cast<std::uint32_t*>(shared.ops)[threadIdx.x] =
        reinterpret_cast<const std::uint32_t*>(plan.ops)[threadIdx.x];
  sync_consumers();
  wait_for_previous();
  // Through shared memory, so that it stays in a register: it would be read from afar at each slot.
  Block block{*const_cast<volatile int*>(&shared.slots), shared_address(chain_memory)};
#pragma unroll 1
  for (int i = 0; i < a.num_linears; ++i) {
    const ChainOp& op = shared.ops[i];
    const Phase phase(op, op.linear.result == ChainResult::logits ? logits_rows : tokens);
    if (phase.rows == 0) break;
    consume<kTwo>(a, plan, phase, block, i);
    if (i == 0 && a.clean) clean(a);
  }
}

template <bool kTwo>
__global__ void __launch_bounds__(kChainThreads, 1)
    chain_kernel(const __grid_constant__ ChainArgs a, const __grid_constant__ ChainPlan plan) {
  run_chain<kTwo, false>(a, plan);
}
// A register file belongs to a quarter of a multiprocessor, which has three of nine warps: beside those of 128 registers a warp
// of attention_short fits.
template <bool kTwo>
__global__ void __maxnreg__(128)
    chain_beside_kernel(const __grid_constant__ ChainArgs a, const __grid_constant__ ChainPlan plan) {
  run_chain<kTwo, true>(a, plan);
}

// Room for activations: those that are normed must fit whole; others go in passes if they are many.
constexpr int kRoom = 100 * 1024 / 2;

ChainPlan make_plan(const ChainArgs& a, int grid, int shared_bytes) {
  ChainPlan plan{};
  int normed = 0, widest = 0, tiles = a.first_block;
  for (int i = 0; i < a.num_linears; ++i) {
    ChainOp& op = plan.ops[i];
    const ChainLinear& l = op.linear = a.linears[i];
    const bool pair = l.result == ChainResult::silu_mul;
    const int count = l.out_features / 16;
    op.shift = (l.parts >= 2) + (l.parts >= 4) + (l.parts >= 8);
    op.part_k = l.in_features >> op.shift, op.chunks = (op.part_k + kSlotK - 1) / kSlotK;
    op.second = pair ? count : 1, op.step = pair ? 1 : 2;
    op.columns = pair ? l.out_features / 2 : l.out_features;
    op.first = tiles % grid, op.each = count / grid, op.rest = count % grid;
    tiles = (tiles + count) % grid;
    widest = l.in_features > widest ? l.in_features : widest;
    if (l.norm || l.parts > 1) normed = l.in_features > normed ? l.in_features : normed;
  }
  const int rows = a.tokens.most, all = rows * (widest + 8), whole = rows * (normed + 8);
  const int least = whole > kRoom ? whole : kRoom;
  const int room = all < least ? all : least;
  for (int i = 0; i < a.num_linears; ++i) {
    ChainOp& op = plan.ops[i];
    const int k = op.linear.in_features, fit = room / rows - 8;
    op.pass = k <= fit ? k : fit / kSlotK * kSlotK;
    if (op.pass == 0) return plan;
    op.last_pass = (k - 1) % op.pass + 1;
    const auto reciprocal = [](int columns) { return 0xffffffffu / static_cast<unsigned>(columns / 8) + 1; };
    op.reciprocal = reciprocal(op.pass), op.last_reciprocal = reciprocal(op.last_pass);
  }
  plan.norm_bytes = (normed * 2 + 127) / 128 * 128;
  const int rest = shared_bytes - a.spare_bytes - kStateBytes - plan.norm_bytes - room * 2;
  plan.slots = rest / kSlotBytes < kMostSlots ? rest / kSlotBytes : kMostSlots;
  plan.shared_bytes = plan.slots * kSlotBytes + kStateBytes + plan.norm_bytes + room * 2;
  return plan;
}

}  // namespace

bool chain_accepts(const ChainArgs& a) {
  constexpr int kSharedBytes = 227 * 1024;  // of a block on sm_90
  if (a.tokens.most < 1 || a.tokens.most > kMostChainRows || a.logits_rows.most > a.tokens.most) return false;
  for (int i = 0; i < a.num_linears; ++i) {
    const ChainLinear& l = a.linears[i];
    const bool parts = l.parts == 1 || l.parts == 2 || l.parts == 4 || l.parts == 8;
    if (!parts || l.in_features % (32 * l.parts) != 0 || l.out_features % 16 != 0) return false;
  }
  return make_plan(a, 1, kSharedBytes).slots >= kLeastSlots;
}

void chain(const ChainArgs& a, cudaStream_t stream) {
  if (a.copy_apart > 0) return chain_row(a, stream);
  const ChainPlan plan = make_plan(a, multiprocessors(), shared_bytes());
  const bool beside = a.spare_bytes > 0;
  const auto kernel = a.tokens.most > 8 ? (beside ? chain_beside_kernel<true> : chain_kernel<true>)
                                        : (beside ? chain_beside_kernel<false> : chain_kernel<false>);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes);
  // A multiprocessor divides its memory anew only when it is idle: all that are to overlap want the same.
  cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  launch_kernel(kernel, static_cast<unsigned>(multiprocessors()), kChainThreads,
                static_cast<std::size_t>(plan.shared_bytes), stream, a, plan);
}

}  // namespace cajal::cuda
