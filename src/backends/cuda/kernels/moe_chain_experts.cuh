#pragma once
// The experts of moe_chain. A warp takes 16 rows of weights (8 of gate and 8 of up, or 16 of down) of one expert, as the rows of
// mma.sync, and the rows of the step that chose it as columns.
#include "backends/cuda/kernels/moe_chain_stages.cuh"
#include "backends/cuda/kernels/moe_choose.cuh"

namespace cajal::cuda::moe_chain_parts {

// Units of gate and up are eight outputs of one tile: all tiles' in one row, of which a block takes a run.
struct Units {
  int of_tile, begin, end;
};
__device__ inline Units units_of(int num_tiles, int intermediate) {
  const int units = intermediate / 8;
  const auto all = static_cast<unsigned>(num_tiles * units);
  return {units, static_cast<int>(all * blockIdx.x / gridDim.x), static_cast<int>(all * (blockIdx.x + 1) / gridDim.x)};
}

__device__ inline void sync_feeders() { asm volatile("bar.sync 4, %0;" ::"n"(kFeeders * 32) : "memory"); }

// Of all numbers but NaNs; in the order of integers.
__device__ inline float warp_largest(float v) {
  const int bits = __float_as_int(v), ordered = bits < 0 ? bits ^ 0x7fffffff : bits;
  const int largest = __reduce_max_sync(~0u, isnan(v) ? INT32_MIN : ordered);
  return largest == INT32_MIN ? -INFINITY : __int_as_float(largest < 0 ? largest ^ 0x7fffffff : largest);
}

// The same choice as choose_experts for a step of one row, by the feeding warps, in every block: expert t is thread t's, which
// counts how many go before it. What is chosen is then in no other order than that of the choices.
__device__ inline void choose_for_one(const MoeChainArgs& a, const bf16* logits, bool real) {
  constexpr int kPerLane = kMostExperts / 32;
  const int t = static_cast<int>(threadIdx.x) - kConsumerThreads, lane = t % 32;
  Shared& shared = chain_shared();
  std::uint16_t raw = 0;
  if (real && t < a.num_experts) {
#pragma unroll 1
    for (Patience patience; (raw = get_one(logits + t)) == 0xffff; patience.spend()) {
    }
  }
  const float own = t < a.num_experts ? load(__ushort_as_bfloat16(raw)) : NAN;
  shared.logits[t] = own;
  sync_feeders();
  float p[kPerLane], largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) p[i] = shared.logits[lane + i * 32], largest = fmaxf(largest, p[i]);
  largest = warp_largest(largest);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    if (lane + i * 32 < a.num_experts) sum = sum + expf(p[i] - largest);
  sum = warp_sum(sum);
  const unsigned key = t < a.num_experts ? key_of_probability(expf(own - largest) / sum) : 0;
  shared.keys[t] = key;
  sync_feeders();
  int before = 0;
#pragma unroll 4
  for (int i = 0; i < kMostExperts; i += 4) {
    const uint4 k = *reinterpret_cast<const uint4*>(shared.keys + i);
    before += k.x > key - (i < t);
    before += k.y > key - (i + 1 < t);
    before += k.z > key - (i + 2 < t);
    before += k.w > key - (i + 3 < t);
  }
  if (key > 0 && before < a.top_k) {
    shared.plan.ids[before] = t, shared.plan.pair[before] = before;
    shared.plan.tiles[before] = {t, before, before + 1, 0};
    shared.chosen[before] = probability_of_key(key);
  }
  sync_feeders();
  if (real && lane == 0) barrier_arrive(&shared.planned);
}
// Tells who asked, and weighs: by all consumers, before the down projection.
__device__ inline void weigh_for_one(const MoeChainArgs& a) {
  Shared& shared = chain_shared();
  const int choice = static_cast<int>(threadIdx.x);
  if (choice >= a.top_k) return;
  float sum = 0;
#pragma unroll 1
  for (int i = 0; i < a.top_k; ++i) sum = sum + shared.chosen[i];
  const bf16 weight = store<bf16>(a.norm_topk_prob ? shared.chosen[choice] / sum : shared.chosen[choice]);
  shared.weights[choice] = weight;
  if (blockIdx.x > 0) return;
  if (a.ids) a.ids[choice] = shared.plan.ids[choice];
  if (a.weights) static_cast<bf16*>(a.weights)[choice] = weight;
}

// A warp a row chooses, in every block for itself.
__device__ inline void choose_row(const MoeChainArgs& a, const bf16* logits) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  constexpr int kPerLane = 4;
  std::uint16_t v[kPerLane] = {};
#pragma unroll 1
  for (Patience patience;; patience.spend()) {
    bool again = false;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      if (lane + i * 32 < a.num_experts) v[i] = get_one(logits + warp * a.num_experts + lane + i * 32);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) again |= v[i] == 0xffff;
    if (!again) break;
  }
  __syncwarp();
  Shared& shared = chain_shared();
  RouterArgs router{};
  router.weights = shared.weights, router.ids = shared.plan.ids;
  router.num_experts = a.num_experts, router.top_k = a.top_k, router.norm_topk_prob = a.norm_topk_prob;
  choose_experts<bf16, kPerLane>(router, warp, [&](int expert) {
    const int i = expert / 32;
    return load(__ushort_as_bfloat16(i == 0 ? v[0] : i == 1 ? v[1] : i == 2 ? v[2] : v[3]));
  });
  __syncwarp();
}

// Sorts at most 32 pairs by expert: by one warp.
__device__ inline void plan_tiles(int pairs) {
  ChainPlan& plan = chain_shared().plan;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int id = lane < pairs ? plan.ids[lane] : INT32_MAX;
  int less = 0;
#pragma unroll 4
  for (int i = 0; i < pairs; ++i) less += __shfl_sync(~0u, id, i) < id;
  const unsigned same = __match_any_sync(~0u, id);
  const int before = __popc(same & ((1u << lane) - 1)), place = less + before;
  const bool head = lane < pairs && before == 0;
  // Tiles in the order of experts: as many before as there are heads with smaller ids.
  int tile = 0;
  for (unsigned heads = __ballot_sync(~0u, head); heads != 0; heads &= heads - 1)
    tile += __shfl_sync(~0u, id, __ffs(static_cast<int>(heads)) - 1) < id;
  if (lane < pairs) plan.pair[place] = lane;
  if (head) plan.tiles[tile] = {id, less, less + __popc(same), 0};
  const unsigned heads = __ballot_sync(~0u, head);
  if (lane == 0) plan.num_tiles = __popc(heads);
  __syncwarp();
}

// Chooses for all rows of a step that has several, and plans. All consumers know when they return; who waits for `planned`
// perhaps earlier.
__device__ inline void choose(const MoeChainArgs& a, int rows, const Exchange& exchange) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  Shared& shared = chain_shared();
  if (warp < rows) choose_row(a, exchange.logits);
  if (rows > 1) sync_consumers();
  if (warp == 0) {
    plan_tiles(rows * a.top_k);
    if (threadIdx.x < kFeeders) barrier_arrive(&shared.planned);
  }
  sync_consumers();
  const int pair = static_cast<int>(threadIdx.x);
  if (blockIdx.x > 0 || pair >= rows * a.top_k) return;
  if (a.ids) a.ids[pair] = shared.plan.ids[pair];
  if (a.weights) static_cast<bf16*>(a.weights)[pair] = shared.weights[pair];
}

// Of 32 of k: two stripes of weights and the rows.
struct Fragments {
  std::uint32_t w0[4], t[4], w1[4];
  __device__ void fetch(std::uint32_t at, std::uint32_t x) {
    ldmatrix_x4(w0, at);
    ldmatrix_x4(t, x);
    ldmatrix_x4(w1, at + 256);
  }
  __device__ void multiply(float (&acc)[4]) const {
    mma_16816(acc, w0, t[0], t[1]);
    mma_16816(acc, w1, t[2], t[3]);
  }
};
// A warp's two stripes of all stages of a run; x: this lane's part of the rows, `step` bytes from one group of eight k to the
// next. All fragments of a full stage are asked for before the first is multiplied.
template <int kStageK>
__device__ __forceinline__ void multiply_run(Drain& drain, int place, int all, std::uint32_t x, int step,
                                             float (&acc)[4]) {
  constexpr int kSteps = kStageK / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto corner = [&](int length) {
    return static_cast<std::uint32_t>((place * 2 + (lane / 8 & 1)) * length * 16 + lane / 16 * 128 + lane % 8 * 16);
  };
  const auto leave = [&] {
    __syncwarp();
    drain.leave(drain.walk.stage);
    drain.next();
  };
  const std::uint32_t of_full = corner(kStageK);
#pragma unroll 1
  for (; all >= kStageK; all -= kStageK) {
    const std::uint32_t at = drain.wait() + of_full;
    Fragments f[kSteps];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) f[i].fetch(at + i * 512, x + i * 4 * step);
    x += kSteps * 4 * step;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) f[i].multiply(acc);
    leave();
  }
  if (all == 0) return;
  std::uint32_t at = drain.wait() + corner(all);
#pragma unroll 1
  for (; all > 0; all -= 32, at += 512, x += 4 * step) {
    Fragments f;
    f.fetch(at, x);
    f.multiply(acc);
  }
  leave();
}

// silu(gate) * up of every pair, to where all blocks see it.
__device__ inline void run_gate_up(Drain& drain, const MoeChainArgs& a, std::uint32_t x, bf16* inner) {
  const ChainPlan& plan = chain_shared().plan;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int step = a.rows.most * 16;
  const Units units = units_of(plan.num_tiles, a.intermediate);
#pragma unroll 1
  for (int first = units.begin; first < units.end; first += kBatchUnits) {
    const bool busy = warp < min(kBatchUnits, units.end - first);
    const int unit = busy ? first + warp : first;
    const GroupTile tile = plan.tiles[unit / units.of_tile];
    const int count = tile.end - tile.begin;
    const int row = plan.pair[tile.begin + min(lane % 8, count - 1)] / a.top_k;
    float acc[4] = {};
    multiply_run<kPieceK>(drain, busy ? warp : 0, a.hidden, x + row * 16 + lane / 8 * step, step, acc);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = lane % 4 * 2 + e;
      if (busy && column < count)
        put(inner + (tile.begin + column) * a.intermediate + unit % units.of_tile * 8 + lane / 4,
            rounded<bf16>(silu(rounded<bf16>(acc[e]))) * rounded<bf16>(acc[2 + e]));
    }
  }
}

// What all blocks made of all pairs.
__device__ inline void fetch_inner(const MoeChainArgs& a, int pairs, const Exchange& exchange, unsigned char* to) {
  constexpr int kAtOnce = 3;
  const int all = pairs * a.intermediate / 8;
#pragma unroll 1
  for (int first = static_cast<int>(threadIdx.x); first < all; first += kAtOnce * kConsumerThreads) {
    const int count = (all - first + kConsumerThreads - 1) / kConsumerThreads;
    uint4 v[kAtOnce];
    poll(v, count, [&](int i) { return exchange.inner + (first + i * kConsumerThreads) * 8; });
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
      if (i < count) *reinterpret_cast<uint4*>(to + (first + i * kConsumerThreads) * 16) = v[i];
  }
  sync_consumers();
}

// Sixteen outputs of all tiles: products by pair, weighted and rounded as if each had been written.
__device__ inline void run_down(Drain& drain, int intermediate, std::uint32_t inner, float (*products)[16]) {
  const Shared& shared = chain_shared();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int first = 0; first < shared.plan.num_tiles; first += kBatchTiles) {
    const bool busy = first + warp < shared.plan.num_tiles;
    const GroupTile tile = shared.plan.tiles[busy ? first + warp : first];
    const int count = tile.end - tile.begin;
    int pair[2];  // of this lane's columns; none where there are fewer
    float weight[2] = {};
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = lane % 4 * 2 + e;
      pair[e] = busy && column < count ? shared.plan.pair[tile.begin + column] : -1;
      if (pair[e] >= 0) weight[e] = load(shared.weights[pair[e]]);
    }
    float acc[4] = {};
    multiply_run<kDownK>(drain, busy ? warp : 0, intermediate,
                         inner + (tile.begin + min(lane % 8, count - 1)) * intermediate * 2 + lane / 8 * 16, 16, acc);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (pair[e % 2] >= 0)
        products[pair[e % 2]][lane / 4 + e / 2 * 8] = rounded<bf16>(weight[e % 2] * rounded<bf16>(acc[e]));
  }
}

// The experts' outputs, added up in the order of the choices, and the residual.
__device__ inline void run_down_and_combine(Drain& drain, const MoeChainArgs& a, int rows, const Exchange& exchange,
                                            unsigned char* x) {
  Shared& shared = chain_shared();
  if (rows == 1) weigh_for_one(a);
  if (static_cast<int>(blockIdx.x) >= a.hidden / 16) return;
  fetch_inner(a, rows * a.top_k, exchange, x);
  int buffer = 0;
#pragma unroll 1
  for (int n = static_cast<int>(blockIdx.x); n < a.hidden / 16; n += static_cast<int>(gridDim.x), buffer ^= 1) {
    const int row = static_cast<int>(threadIdx.x) / 16, column = static_cast<int>(threadIdx.x) % 16;
    const int at = row * a.hidden + n * 16 + column;
    const float before = row < rows ? load(__ushort_as_bfloat16(get_one(exchange.middle + at))) : 0.0f;
    run_down(drain, a.intermediate, shared_address(x), shared.products[buffer]);
    sync_consumers();  // whoever comes back to this buffer has passed the next such point in between
    if (row >= rows) continue;
    float sum = 0;
#pragma unroll
    for (int choice = 0; choice < kMostChoices; ++choice)
      if (choice < a.top_k) sum = sum + shared.products[buffer][row * a.top_k + choice][column];
    const float total = rounded<bf16>(before + rounded<bf16>(sum));
    put(exchange.out + at, total);
    static_cast<bf16*>(a.sum)[at] = store<bf16>(total);
  }
}

}  // namespace cajal::cuda::moe_chain_parts
