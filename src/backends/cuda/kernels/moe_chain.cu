// moe_chain: one block a multiprocessor. Four warps stream all weights that the block will need through one ring, the next
// operation's while the inputs of this one are awaited; eight warps multiply.
#include "backends/cuda/kernels/moe_chain.h"

#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/moe_chain_experts.cuh"
#include "backends/cuda/kernels/moe_chain_linear.cuh"

namespace cajal::cuda {
namespace moe_chain_parts {

struct Layout {
  int stages, x_bytes,
      rows_bytes;  // x: what attention made, then the experts' inner activations; rows: the normed ones
};

enum class Phase : std::uint8_t { o, router, gate_up, down, qkv };

// The router's blocks are the last, which have no outputs of o if there are such.
__device__ Stripes stripes_of(const MoeChainArgs& a, Phase phase) {
  const int block = static_cast<int>(blockIdx.x);
  if (phase == Phase::o) return stripes_of(a.o, a.hidden, a.attention_columns, block);
  if (phase == Phase::qkv) return stripes_of(a.qkv, a.qkv_columns, a.hidden, block);
  return stripes_of(a.router, a.num_experts, a.hidden, static_cast<int>(gridDim.x) - 1 - block);
}

// The pieces of a number of stages: lane p knows where piece p begins in the first. Each stage is stage_k further.
struct Run {
  const bf16* piece;
  int k, stage_k, piece_k, abreast;  // abreast: pieces that lie beside each other in k
  bool ahead;                        // what the ring has no room for is brought to the cache

  // Of a stage that begins `left` before the end.
  __device__ std::uint32_t bytes(int left) const { return static_cast<std::uint32_t>(min(piece_k, left)) * 16; }
  __device__ int pieces(int left) const { return abreast * (stage_k > piece_k ? min(stage_k, left) / piece_k : 1); }
};

__device__ inline void prefetch(const void* from, std::uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

// The side that fills: lane 0 of each of kFeeders warps brings every kFeeders-th piece. A stage is asked for when all but the last
// `under_way` before it have come.
class Feeder {
 public:
  __device__ Feeder(int stages, int under_way) : walk_{stages}, late_{stages}, under_way_(under_way) {
    // Weights are read once a step: they leave the cache first.
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy_));
  }

  __device__ __forceinline__ void feed(const Run& run) {
    const int first = (static_cast<int>(threadIdx.x) - kConsumerThreads) / 32;
    const bf16* at[kMost];
#pragma unroll
    for (int i = 0; i < kMost; ++i)
      at[i] = reinterpret_cast<const bf16*>(
          __shfl_sync(~0u, reinterpret_cast<unsigned long long>(run.piece), first + i * kFeeders));
    if (threadIdx.x % 32 == 0) {
#pragma unroll 1
      for (int left = run.k; left > 0; left -= run.stage_k, walk_.next()) {
        const std::uint32_t bytes = run.bytes(left);
        const int pieces = run.pieces(left);
        std::uint64_t* full = &chain_shared().full[walk_.stage];
        if (run.ahead && run.k - left == walk_.stages * run.stage_k) prefetch_rest(run, left, first, at);
        barrier_wait(&chain_shared().empty[walk_.stage], walk_.parity ^ 1);
        if (++asked_ > under_way_) barrier_wait(&chain_shared().full[late_.stage], late_.parity), late_.next();
        barrier_expect(full, bytes * static_cast<std::uint32_t>((pieces - first + kFeeders - 1) / kFeeders));
#pragma unroll
        for (int i = 0; i < kMost; ++i) {
          if (first + i * kFeeders < pieces)
            asm volatile(
                "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
                "[%3], %4;" ::"r"(stage_address(walk_.stage) + (first + i * kFeeders) * bytes),
                "l"(at[i]), "r"(bytes), "r"(shared_address(full)), "l"(policy_)
                : "memory");
          at[i] += run.stage_k * 8;
        }
      }
    }
    __syncwarp();
    walk_.stage = __shfl_sync(~0u, walk_.stage, 0), walk_.parity = __shfl_sync(~0u, walk_.parity, 0);
  }

 private:
  static constexpr int kMost = 4;  // pieces of a stage that a warp brings

  static __device__ void prefetch_rest(const Run& run, int left, int first, const bf16* (&at)[kMost]) {
#pragma unroll 1
    for (int k = 0; k < left; k += run.stage_k)
#pragma unroll
      for (int i = 0; i < kMost; ++i)
        if (first + i * kFeeders < run.pieces(left - k)) prefetch(at[i] + k * 8, run.bytes(left - k));
  }

  Walk walk_, late_;
  int under_way_, asked_ = 0;
  std::uint64_t policy_ = 0;
};

// What lane `lane` brings of the batch-th batch of a phase.
__device__ Run run_of(const MoeChainArgs& a, Phase phase, int batch) {
  const ChainPlan& plan = chain_shared().plan;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (phase == Phase::gate_up) {
    const Units units = units_of(plan.num_tiles, a.intermediate);
    const int first = units.begin + batch * kBatchUnits, unit = min(first + lane / 2, units.end - 1);
    const int stripe = unit % units.of_tile + lane % 2 * units.of_tile;
    const std::int64_t group = plan.tiles[unit / units.of_tile].group;
    return {static_cast<const bf16*>(a.gate_up) + (group * 2 * units.of_tile + stripe) * a.hidden * 8,
            a.hidden,
            kPieceK,
            kPieceK,
            2 * min(kBatchUnits, units.end - first),
            false};
  }
  if (phase == Phase::down) {
    const int batches = (plan.num_tiles + kBatchTiles - 1) / kBatchTiles, first = batch % batches * kBatchTiles;
    const int n = static_cast<int>(blockIdx.x) + batch / batches * static_cast<int>(gridDim.x);
    const std::int64_t group = plan.tiles[min(first + lane / 2, plan.num_tiles - 1)].group;
    return {static_cast<const bf16*>(a.down) + (group * a.hidden + n * 16 + lane % 2 * 8) * a.intermediate,
            a.intermediate,
            kDownK,
            kDownK,
            2 * min(kBatchTiles, plan.num_tiles - first),
            true};
  }
  const Stripes s = stripes_of(a, phase);
  const int each = max(s.count, 1), group = min(lane / each, s.groups - 1);
  return {s.weight + (static_cast<std::int64_t>(s.first + lane % each) * s.in_features + group * kPieceK) * 8,
          s.count > 0 ? s.in_features : 0,
          s.groups * kPieceK,
          kPieceK,
          s.count,
          phase == Phase::qkv};
}
__device__ int batches_of(const MoeChainArgs& a, Phase phase) {
  const ChainPlan& plan = chain_shared().plan;
  if (phase == Phase::gate_up) {
    const Units units = units_of(plan.num_tiles, a.intermediate);
    return (units.end - units.begin + kBatchUnits - 1) / kBatchUnits;
  }
  const int blocks = static_cast<int>(gridDim.x);
  if (phase == Phase::down)
    return max((a.hidden / 16 - static_cast<int>(blockIdx.x) + blocks - 1) / blocks, 0) *
           ((plan.num_tiles + kBatchTiles - 1) / kBatchTiles);
  return phase == Phase::qkv && a.qkv_columns == 0 ? 0 : 1;
}

// What would be waited for otherwise. Weights that come later would be in the way of the results that blocks wait for.
__device__ void prefetch_norms(const MoeChainArgs& a) {
  if (threadIdx.x == kConsumerThreads) prefetch(a.norm, a.hidden * 2);
  if (threadIdx.x == kConsumerThreads + 1 && a.qkv_columns > 0) prefetch(a.next_norm, a.hidden * 2);
}

__device__ inline int set_of(const MoeChainArgs& a) { return (a.ordinal + (a.chains % 2) * *a.serial) & 1; }

// Of a step of one row the feeders themselves choose: their first weights depend on it. They do so once before there is anything
// to choose from, so that the code is here when there is.
__device__ void feed_all(const MoeChainArgs& a, int stages) {
  // One row wants its results soon, and those queue behind what was asked for; several want bandwidth.
  constexpr int kAll = 1 << 30;
  Feeder feeder(stages, a.rows.most == 1 ? kUnderWay : kAll);
  prefetch_norms(a);
#pragma unroll 1
  for (int p = 0; p < 5; ++p) {
    const Phase phase = static_cast<Phase>(p);
    const bool chooses = phase == Phase::gate_up && a.rows.count() == 1;
    if (chooses) {
      chain_shared().plan.num_tiles = a.top_k;
      sync_feeders();
    } else if (phase == Phase::gate_up) {
      barrier_wait(&chain_shared().planned, 0);
    }
    const int batches = batches_of(a, phase);
#pragma unroll 1
    for (int batch = chooses ? -1 : 0; batch < (chooses ? max(batches, 1) : batches); ++batch) {
      if (chooses && batch <= 0) {
        if (batch == 0) wait_for_previous();  // long over, but it is what makes the exchange's set clean
        choose_for_one(a, exchange_of(a, set_of(a)).logits, batch == 0);
      }
      Run run = run_of(a, phase, max(batch, 0));
      if (batch < 0 || batch >= batches) run.k = 0;
      feeder.feed(run);
    }
  }
}

// What the launch after this one, of the other set, will wait in.
__device__ void clean(const MoeChainArgs& a, int set) {
  constexpr int kThreadsOfIt = kConsumerThreads / 2;
  const int count = static_cast<int>(exchange_elements(a) / 8);
  uint4* to = reinterpret_cast<uint4*>(a.exchange) + set * count;
#pragma unroll 1
  for (int i = static_cast<int>(blockIdx.x * kThreadsOfIt + threadIdx.x % kThreadsOfIt); i < count;
       i += static_cast<int>(gridDim.x) * kThreadsOfIt)
    to[i] = {~0u, ~0u, ~0u, ~0u};
}

// What attention made, as wgmma reads it.
__device__ __forceinline__ void fetch_attention(const MoeChainArgs& a, int rows, unsigned char* x) {
  const int groups = a.attention_columns / 8;
#pragma unroll 1
  for (int row = 0; row < rows; ++row)
#pragma unroll 2
    for (int i = static_cast<int>(threadIdx.x); i < groups; i += kConsumerThreads)
      *reinterpret_cast<uint4*>(x + (i * a.rows.most + row) * 16) =
          __ldcg(static_cast<const uint4*>(a.attention) + row * groups + i);
  publish_rows();
}

__device__ inline unsigned long long nanoseconds() {
  unsigned long long t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}

// All that consumers do.
__device__ __forceinline__ void run_layer(const MoeChainArgs& a, int rows, Drain& drain, const Layout& layout,
                                          const Exchange& exchange, unsigned long long* stamp) {
  const auto mark = [&] {
    if (stamp) *stamp++ = nanoseconds();
  };
  unsigned char *x = moe_chain_memory + kStateBytes + layout.stages * kStageBytes, *normed_rows = x + layout.x_bytes;
#pragma unroll
  for (int p = 0; p < 5; ++p) {
    const Phase phase = static_cast<Phase>(p);
    if (phase == Phase::gate_up) {
      run_gate_up(drain, a, shared_address(normed_rows), exchange.inner);
      mark();
      continue;
    }
    if (phase == Phase::down) {
      run_down_and_combine(drain, a, rows, exchange, x);
      mark();
      continue;
    }
    if (phase == Phase::qkv && a.qkv_columns == 0) break;
    const Stripes s = stripes_of(a, phase);
    float residual[4] = {};
    if (phase == Phase::o) {
      fetch_attention(a, rows, x);
      if (threadIdx.x >= kConsumerThreads / 2) clean(a, set_of(a) ^ 1);  // while the others multiply
      each_sum(s, rows, residual, [&](int row, int n, float, int i) {
        residual[i] = load(__ushort_as_bfloat16(get_one(static_cast<const bf16*>(a.x) + row * a.hidden + n)));
      });
    } else {
      const bool routes = phase == Phase::router;
      norm_rows({routes ? exchange.middle : exchange.out, routes ? a.norm : a.next_norm,
                 routes ? a.epsilon : a.next_epsilon, rows, a.rows.most, a.hidden},
                normed_rows);
    }
    mark();
    float sums[4];
    multiply_stripes(drain, s, shared_address(phase == Phase::o ? x : normed_rows), a.rows.most, sums);
    each_sum(s, rows, sums, [&](int row, int n, float sum, int i) {
      if (phase == Phase::o)
        put(exchange.middle + row * a.hidden + n, residual[i] + rounded<bf16>(sum));
      else if (phase == Phase::router)
        put(exchange.logits + row * a.num_experts + n, sum);
      else
        static_cast<bf16*>(a.qkv_out)[row * a.qkv_columns + n] = store<bf16>(sum);
    });
    mark();
    if (phase != Phase::router) continue;
    if (rows == 1)
      wait_barrier(&chain_shared().planned, 0);
    else
      choose(a, rows, exchange);
    mark();
  }
}

constexpr int kMostRegisters = 128;  // leaves as many to each of 128 threads of an attention beside it
__global__ void __maxnreg__(kMostRegisters) moe_chain_kernel(const __grid_constant__ MoeChainArgs a, Layout layout) {
  let_next_begin();
  Shared& shared = chain_shared();
  if (threadIdx.x < layout.stages) {
    barrier_init(&shared.full[threadIdx.x], kFeeders);
    barrier_init(&shared.empty[threadIdx.x], kConsumers);
  }
  if (threadIdx.x == 0) barrier_init(&shared.planned, kFeeders);
  barrier_fence_init();
  __syncthreads();
  if (threadIdx.x >= kConsumerThreads) return feed_all(a, layout.stages);

  const int rows = a.rows.count();  // of the step, like its number: there since before its first kernel
  const int set = set_of(a);
  unsigned long long* stamp = a.stamps && threadIdx.x == 0 ? a.stamps + blockIdx.x * kMoeChainStamps : nullptr;
  if (stamp) *stamp++ = nanoseconds();
  wait_for_previous();
  if (stamp) *stamp++ = nanoseconds();
  Drain drain{{layout.stages}};
  run_layer(a, rows, drain, layout, exchange_of(a, set), stamp);
}

// Of a multiprocessor's 228 KiB 56 are left to attention, beside which this kernel begins, and of each block's one to the system.
constexpr int kChainBytes = (228 - 56 - 1) * 1024, kLeastStages = 3;
static_assert(kUnderWay < kLeastStages);
Layout layout_of(const MoeChainArgs& a) {
  const auto rounded_up = [](int bytes) { return (bytes + 127) / 128 * 128; };
  const int attention = a.rows.most * a.attention_columns * 2, inner = a.rows.most * a.top_k * a.intermediate * 2;
  Layout l{};
  l.x_bytes = rounded_up(attention > inner ? attention : inner);
  l.rows_bytes = rounded_up(a.rows.most * a.hidden * 2) + 128;
  // wgmma reads 64 rows of weights, where there are fewer beyond them: 14 KiB at most.
  if (l.x_bytes + l.rows_bytes < 8 * kPieceBytes) l.rows_bytes = 8 * kPieceBytes - l.x_bytes;
  const int fit = (kChainBytes - kStateBytes - l.x_bytes - l.rows_bytes) / kStageBytes;
  l.stages = fit < kMostStages ? fit : kMostStages;
  return l;
}

}  // namespace moe_chain_parts

bool moe_chain_accepts(const MoeChainArgs& a) {
  using namespace moe_chain_parts;
  constexpr int kLeastBlocks = 100, kMostStripes = 8;  // of any GPU of sm_90
  const auto linear = [](int out_features, int in_features) {
    return out_features % 8 == 0 && out_features / 8 <= kLeastBlocks * kMostStripes && in_features % kPieceK == 0;
  };
  return a.rows.most >= 1 && a.rows.most <= kMostMoeChainRows && linear(a.hidden, a.attention_columns) &&
         linear(a.num_experts, a.hidden) && (a.qkv_columns == 0 || linear(a.qkv_columns, a.hidden)) &&
         a.hidden % 16 == 0 && a.hidden <= kNormGroups * kSumLanes * 8 && a.num_experts <= kMostExperts &&
         a.top_k >= 1 && a.top_k <= kMostChoices && a.intermediate % 32 == 0 && layout_of(a).stages >= kLeastStages;
}

std::size_t moe_chain_exchange_bytes(const MoeChainArgs& a) {
  return 2 * sizeof(bf16) * static_cast<std::size_t>(moe_chain_parts::exchange_elements(a));
}

void moe_chain(const MoeChainArgs& a, cudaStream_t stream) {
  using namespace moe_chain_parts;
  const Layout l = layout_of(a);
  const int bytes = kStateBytes + l.stages * kStageBytes + l.x_bytes + l.rows_bytes;
  cudaFuncSetAttribute(moe_chain_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  launch_kernel(moe_chain_kernel, multiprocessors(), kThreads, bytes, stream, a, l);
}

}  // namespace cajal::cuda
