// attention_wgmma: rows that decode go through attention_pieces, pieces of prompts through tiles of 128 packed queries
// (tokens x heads of a group) of one kv head. One warp brings blocks of keys and values into a ring, two warpgroups attend
// with 64 packed rows each.
#include "backends/cuda/kernels/attention_rows.cuh"
#include "backends/cuda/kernels/division.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/tensor_map.h"
#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kThreads = (kGroups + 1) * kGroupThreads, kStages = 3;
constexpr float kLog2E = 1.4426950408889634f;

template <int D>
struct Shared {
  static constexpr int kBlockBytes = kBlock * D * 2, kQBytes = kPackedRows * D * 2;
  static constexpr int kRing = kQBytes, kTotal = kRing + 2 * kStages * kBlockBytes;
  static constexpr int kMaxima = kTotal + kGroups * kGroupThreads * (D / 2) * 4;  // a number of each thread
  static constexpr int kBytes = kMaxima + kThreads * 4 + 1024;
};

struct Barriers {
  std::uint64_t q, k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
};

// Whether a barrier has been passed: for a look while there is other work.
__device__ bool barrier_passed(std::uint64_t* bar, int parity) {
  int passed;
  asm volatile(
      "{\n.reg .pred done;\nmbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\nselp.b32 %0, 1, 0, done;\n}"
      : "=r"(passed)
      : "r"(shared_address(bar)), "r"(parity)
      : "memory");
  return passed;
}

// Where one is in the ring.
struct Turn {
  int stage = 0, parity = 0;
  __device__ void next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

template <int D>
__device__ void produce(const AttentionArgs& a, const CUtensorMap* k, const CUtensorMap* v, Barriers& bars,
                        std::uint32_t base, int kv_head, const RowMap& map) {
  using S = Shared<D>;
  Turn turn;
  turn.parity = 1;
  for (int i = 0; i < map.num_runs; ++i) {
    const Run run = map.runs[i];
    const std::int32_t* table = a.block_tables + static_cast<std::int64_t>(run.seq) * a.max_blocks_per_seq;
    const int end = run.all.end_block();
    int block = run.all.begin_block(), slot = table[block];
    for (; block < end; ++block) {
      const int at = (slot * a.num_kv_heads + kv_head) * kBlock;
      if (block + 1 < end) slot = table[block + 1];  // on its way while the ring is full
      const std::uint32_t to = base + S::kRing + turn.stage * 2 * S::kBlockBytes;
      const auto fetch = [&](std::uint64_t* full, std::uint64_t* empty, const CUtensorMap* map, std::uint32_t where) {
        barrier_wait(empty, turn.parity);
        barrier_expect(full, S::kBlockBytes);
        for (int half = 0; half < D / 64; ++half) copy_tensor(where + half * kBlock * 128, map, half * 64, at, full);
      };
      fetch(&bars.k_full[turn.stage], &bars.k_empty[turn.stage], k, to);
      fetch(&bars.v_full[turn.stage], &bars.v_empty[turn.stage], v, to + S::kBlockBytes);
      turn.next();
    }
  }
}

// Merge, and nothing where neither of the two has seen anything: without branches, since scores are on their way meanwhile.
struct SafeMerge {
  float m, own, others;
  __device__ SafeMerge(float mine, float other) : m(fmaxf(mine, other)) {
    const float base = m == -INFINITY ? 0.0f : m;
    own = exp2_fast(mine - base), others = exp2_fast(other - base);
  }
  __device__ float operator()(float mine, float other) const { return fmaf(other, others, mine * own); }
};

// A warpgroup's 64 packed rows.
template <int D>
class Consumer {
 public:
  __device__ Consumer(const AttentionArgs& a, Barriers& bars, const RowMap& map, unsigned char* shared, int kv_head,
                      const TileRows& tile)
      : a_(a), bars_(bars), map_(map), shared_(shared), base_(shared_address(shared)), tile_(tile), kv_head_(kv_head) {}

  __device__ void run() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total_m_[h] = -INFINITY, total_l_[h] = 0;
      row_[h] = tile_.first + packed(h) / tile_.group;
      mine_[h] = packed(h) < kPackedRows / tile_.group * tile_.group && row_[h] < tile_.end &&
                 map_.tiles[row_[h] / kGroup - tile_.first / kGroup];
    }
#pragma unroll
    for (int j = 0; j < D / 8; ++j) total_at(j) = {0, 0, 0, 0};
    barrier_wait(&bars_.q, 0);
    const int runs = uniform(map_.num_runs);
    for (int i = 0; i < runs; ++i) run_sequence(i);
    write();
  }

 private:
  using S = Shared<D>;

  __device__ int packed(int h) const { return warpgroup_ * kGroupRows + warp_ * 16 + lane_ / 4 + h * 8; }
  __device__ float4& total_at(int j) {
    return reinterpret_cast<float4*>(shared_ + S::kTotal)[j * (kGroups * kGroupThreads) + threadIdx.x - kGroupThreads];
  }
  __device__ std::uint32_t keys(int stage) const { return base_ + S::kRing + stage * 2 * S::kBlockBytes; }
  __device__ std::uint32_t values(int stage) const { return keys(stage) + S::kBlockBytes; }
  __device__ void release(std::uint64_t* empty) const {
    if (lane_ == 0) barrier_arrive(empty);
  }

  __device__ void run_sequence(int index) {
    const Run& run = map_.runs[index];
    const int begin_row = run.begin_row, end_row = map_.runs[index + 1].begin_row;
    whole_begin_ = 0, whole_end_ = INT_MAX;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      in_sequence_[h] = mine_[h] && row_[h] >= begin_row && row_[h] < end_row;
      const Span span = span_of(h);
      whole_begin_ = max(whole_begin_, span.begin), whole_end_ = min(whole_end_, span.end);
    }
    whole_begin_ = (uniform(__reduce_max_sync(~0u, whole_begin_)) + kBlock - 1) / kBlock;
    whole_end_ = uniform(__reduce_min_sync(~0u, whole_end_)) / kBlock;
    const Seen own = run.of_group[warpgroup_];
    const int all_end = uniform(run.all.end_block()), end_position = uniform(run.all.end);
    int block = uniform(run.all.begin_block());
    const int own_begin = uniform(own.any() ? own.begin_block() : all_end),
              own_end = uniform(own.any() ? own.end_block() : 0);
    for (; block < own_begin; ++block) pass();
    if (own_end > 0) attend(own_begin, own_end, end_position), block = own_end;
    for (; block < all_end; ++block) pass();
  }

  // Blocks begin .. end-1. While a block's values are multiplied the next one's largest scores are found, and while its
  // exponentials are on their way, one at a time, what came of the values is merged.
  __device__ void attend(int begin, int end, int end_position) {
    begin_scores(turn_);
    wgmma_wait<0>();
    release(&bars_.k_empty[turn_.stage]);
    find_maxima(begin);
    make_probabilities();
    k_there_ = v_there_ = false;
    for (int block = begin; block + 1 < end; ++block) {
      const bool first = block == begin || block % kBlocksPerPiece == 0, last = (block + 1) % kBlocksPerPiece == 0;
      if (last)
        first ? step<true, true>(block, end_position) : step<false, true>(block, end_position);
      else
        first ? step<true, false>(block, end_position) : step<false, false>(block, end_position);
    }
    const int block = end - 1;
    block == begin || block % kBlocksPerPiece == 0 ? last_step<true>(block, end_position)
                                                   : last_step<false>(block, end_position);
  }

  // A block that no row of the warpgroup sees.
  __device__ void pass() {
    barrier_wait(&bars_.k_full[turn_.stage], turn_.parity);
    release(&bars_.k_empty[turn_.stage]);
    barrier_wait(&bars_.v_full[turn_.stage], turn_.parity);
    release(&bars_.v_empty[turn_.stage]);
    turn_.next();
  }

  // Starts the scores of a block.
  __device__ void begin_scores(const Turn& turn, bool there = false) {
    if (!there) barrier_wait(&bars_.k_full[turn.stage], turn.parity);
    const std::uint64_t q = swizzled_descriptor(base_ + warpgroup_ * kGroupRows * 128),
                        k = swizzled_descriptor(keys(turn.stage));
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < D / 16; ++step)
      wgmma_k16_to<kBlock>(reinterpret_cast<float(&)[kBlock / 2]>(s_),
                           beside(q, step / 4 * kPackedRows * 128 + step % 4 * 32),
                           beside(k, step / 4 * kBlock * 128 + step % 4 * 32), step > 0);
    wgmma_commit();
  }

  __device__ Span span_of(int h) const { return in_sequence_[h] ? map_.span(a_, row_[h] - tile_.first) : Span{0, 0}; }

  // The largest scores of a block, which become its probabilities' m.
  __device__ void find_maxima(int block) {
    if (block < whole_begin_ || block >= whole_end_) {
      const Span spans[2] = {span_of(0), span_of(1)};
      mask_block(s_, block * kBlock, spans);
    }
    block_maxima(s_, next_m_);
  }
  __device__ void make_probabilities() {
    block_probabilities(s_, a_.scale * kLog2E, next_m_, next_l_);
#pragma unroll
    for (int i = 0; i < kBlock / 4; ++i) p_[i / 4][i % 4] = pack_bf16(s_[i / 2][i % 2 * 2], s_[i / 2][i % 2 * 2 + 1]);
  }

  // Starts the product of probabilities and values. kFirst: of a piece, whose sums they become.
  template <bool kFirst, bool kMayEnd>
  __device__ void begin_values(int block, int end_position, bool there = false) {
    if (!there) barrier_wait(&bars_.v_full[turn_.stage], turn_.parity);
    if (kMayEnd && (block + 1) * kBlock > end_position)
      clear_values(values(turn_.stage), end_position - block * kBlock);
    Partial<D>& part = kFirst ? state_ : other_;
#pragma unroll
    for (int h = 0; h < 2; ++h) part.m[h] = next_m_[h], part.l[h] = next_l_[h];
    const std::uint64_t v = transposed_descriptor(values(turn_.stage), kBlock * 128);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kBlock / 16; ++step)
      wgmma_k16_from_registers<D>(reinterpret_cast<float(&)[D / 2]>(part.o), p_[step], beside(v, step * 2048),
                                  step > 0);
    wgmma_commit();
  }

  __device__ void merge_other() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const SafeMerge by(state_.m[h], other_.m[h]);
      state_.m[h] = by.m;
      state_.l[h] = by(state_.l[h], other_.l[h]);
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) state_.o[j][e] = by(state_.o[j][e], other_.o[j][e]);
    }
  }

  // A block whose probabilities are there, with another behind it. kFirst, kLast: of a piece.
  template <bool kFirst, bool kLast>
  __device__ void step(int block, int end_position) {
    Turn next = turn_;
    next.next();
    begin_scores(next, k_there_);
    begin_values<kFirst, false>(block, end_position, v_there_);
    wgmma_wait<1>();
    release(&bars_.k_empty[next.stage]);
    find_maxima(block + 1);
    // Nobody reads it: the assembler moves waiting in front of all that does not touch memory.
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(base_ + S::kMaxima + threadIdx.x * 4), "f"(next_m_[0] + next_m_[1])
                 : "memory");
    wgmma_wait<0>();
    release(&bars_.v_empty[turn_.stage]);
    turn_ = next;
    next.next();
    const bool k_there = barrier_passed(&bars_.k_full[next.stage], next.parity),
               v_there = barrier_passed(&bars_.v_full[turn_.stage], turn_.parity);
    if constexpr (!kFirst) merge_other();
    if constexpr (kLast) finish_piece();
    make_probabilities();
    k_there_ = __all_sync(~0u, k_there), v_there_ = __all_sync(~0u, v_there);
  }
  template <bool kFirst>
  __device__ void last_step(int block, int end_position) {
    begin_values<kFirst, true>(block, end_position);
    wgmma_wait<0>();
    release(&bars_.v_empty[turn_.stage]);
    turn_.next();
    if constexpr (!kFirst) merge_other();
    finish_piece();
  }

  // Rows of values from `end` on are nobody's: what a slot holds that was never written must not meet a probability of zero.
  __device__ void clear_values(std::uint32_t at, int end) const {
    for (int i = static_cast<int>(threadIdx.x) % kGroupThreads; i < (kBlock - end) * (D / 8); i += kGroupThreads) {
      const int row = end + i / (D / 8), chunk = i % (D / 8);
      asm volatile(
          "st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(at + chunk / 8 * kBlock * 128 + row_of_128(row, chunk % 8)),
          "r"(0)
          : "memory");
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("bar.sync %0, 128;" ::"r"(warpgroup_ + 1) : "memory");
  }

  // The piece's result into the total, which lies in shared memory: each thread reads and writes its own numbers.
  __device__ void finish_piece() {
    const SafeMerge low(total_m_[0], state_.m[0]), high(total_m_[1], state_.m[1]);
    total_m_[0] = low.m, total_m_[1] = high.m;
    total_l_[0] = low(total_l_[0], state_.l[0]), total_l_[1] = high(total_l_[1], state_.l[1]);
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      float4& at = total_at(j);
      const float4 t = at;
      const float(&o)[4] = state_.o[j];
      at = {low(t.x, o[0]), low(t.y, o[1]), high(t.z, o[2]), high(t.w, o[3])};
    }
  }

  __device__ void write() {
    const Divisor low(total_l_[0]), high(total_l_[1]);
    bool right = true;
    write(
        [&](bool mine, const Divisor& by, float x) {
          right = right && (!mine || by.right_for(x));
          return by.quotient(x);
        },
        low, high);
    if (!right) write([](bool, float by, float x) { return x / by; }, total_l_[0], total_l_[1]);
  }
  template <class Divide, class By>
  __device__ void write(const Divide& divide, const By& low, const By& high) {
    bf16* y[2];
#pragma unroll
    for (int h = 0; h < 2; ++h)
      y[h] =
          static_cast<bf16*>(a_.y) +
          (static_cast<std::int64_t>(row_[h]) * a_.num_heads + kv_head_ * tile_.group + packed(h) % tile_.group) * D +
          lane_ % 4 * 2;
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      const float4 t = total_at(j);
      const std::uint32_t both[2] = {pack_bf16(divide(mine_[0], low, t.x), divide(mine_[0], low, t.y)),
                                     pack_bf16(divide(mine_[1], high, t.z), divide(mine_[1], high, t.w))};
#pragma unroll
      for (int h = 0; h < 2; ++h)
        if (mine_[h]) *reinterpret_cast<std::uint32_t*>(y[h] + j * 8) = both[h];
    }
  }

  const AttentionArgs& a_;
  Barriers& bars_;
  const RowMap& map_;
  unsigned char* shared_;
  std::uint32_t base_;
  TileRows tile_;
  int kv_head_;
  int warpgroup_ = uniform(static_cast<int>(threadIdx.x) / kGroupThreads - 1), warp_ = threadIdx.x / 32 % 4,
      lane_ = threadIdx.x % 32;
  int row_[2];
  bool mine_[2], in_sequence_[2];
  int whole_begin_ = 0, whole_end_ = 0;  // blocks of which all rows of the warp see all
  Turn turn_;
  bool k_there_ = false, v_there_ = false;  // of the block after next and of the next, when one last looked
  float s_[kBlock / 8][4];
  std::uint32_t p_[kBlock / 16][4];
  float total_m_[2], total_l_[2], next_m_[2], next_l_[2];  // next: of the probabilities
  Partial<D> state_, other_;
};

// Grid: kv heads x tiles, those that see most first.
template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_wgmma_kernel(const __grid_constant__ AttentionArgs a, const __grid_constant__ CUtensorMap q,
                           const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v) {
  extern __shared__ unsigned char dynamic[];
  __shared__ Barriers bars;
  __shared__ RowMap map;
  let_next_begin();
  const std::uint32_t start = shared_address(dynamic);
  unsigned char* shared = dynamic + ((start + 1023) / 1024 * 1024 - start);
  if (threadIdx.x == 0) {
    barrier_init(&bars.q, 1);
    for (int i = 0; i < kStages; ++i) {
      barrier_init(&bars.k_full[i], 1), barrier_init(&bars.v_full[i], 1);
      barrier_init(&bars.k_empty[i], kGroups * 4), barrier_init(&bars.v_empty[i], kGroups * 4);
    }
    barrier_fence_init();
  }
  wait_for_previous();
  const int group = a.num_heads / a.num_kv_heads, per_tile = kPackedRows / group,
            kv_head = static_cast<int>(blockIdx.x), first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * per_tile;
  const TileRows tile{first, min(a.rows.count(), first + per_tile), group};
  if (tile.first >= tile.end || !map_rows(a, tile, map)) return;
  if (threadIdx.x < kGroupThreads) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x != 0) return;
    barrier_expect(&bars.q, per_tile * group * D * 2);
    for (int half = 0; half < D / 64; ++half)
      copy_tensor(shared_address(shared) + half * kPackedRows * 128, &q, half * 64, kv_head * group, first, &bars.q);
    produce<D>(a, &k, &v, bars, shared_address(shared), kv_head, map);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    Consumer<D>(a, bars, map, shared, kv_head, tile).run();
  }
}

template <int D>
bool launch(const AttentionArgs& a, cudaStream_t stream) {
  const int group = a.num_heads / a.num_kv_heads, per_tile = kPackedRows / group;
  constexpr std::int64_t kMostRows = std::int64_t{1} << 31;  // of a cache; no more than it has is ever asked for
  const std::int64_t d = D;
  CUtensorMap q, k, v;
  if (!make_tensor_map(q, a.q, {{d, 0, 64}, {a.num_heads, d * 2, group}, {a.rows.most, a.num_heads * d * 2, per_tile}},
                       CU_TENSOR_MAP_SWIZZLE_128B) ||
      !make_tensor_map(k, a.k_cache, {{d, 0, 64}, {kMostRows, d * 2, kBlock}}, CU_TENSOR_MAP_SWIZZLE_128B) ||
      !make_tensor_map(v, a.v_cache, {{d, 0, 64}, {kMostRows, d * 2, kBlock}}, CU_TENSOR_MAP_SWIZZLE_128B))
    return false;
  const dim3 grid(static_cast<unsigned>(a.num_kv_heads),
                  static_cast<unsigned>((a.rows.most + per_tile - 1) / per_tile));
  cudaFuncSetAttribute(attention_wgmma_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, Shared<D>::kBytes);
  launch_kernel(attention_wgmma_kernel<D>, grid, kThreads, Shared<D>::kBytes, stream, a, q, k, v);
  return true;
}

}  // namespace

std::size_t attention_wgmma_scratch(const AttentionShape& shape) { return attention_pieces_scratch(shape); }

void attention_wgmma(const AttentionArgs& a, cudaStream_t stream) {
  bool done = attention_pieces(a, stream);
  if (done && a.rows.most > kGroup) done = a.head_dim == 64 ? launch<64>(a, stream) : launch<128>(a, stream);
  if (done) return;
  AttentionArgs unsplit = a;  // a driver that does not know this device's copies: the same bits
  unsplit.scratch = nullptr;
  attention_mma(unsplit, stream);
}

}  // namespace cajal::cuda
