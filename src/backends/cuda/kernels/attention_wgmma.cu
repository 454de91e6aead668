// attention_wgmma: rows that decode go through attention_pieces, pieces of prompts through tiles of 128 packed queries
// (tokens x heads of a group) of one kv head. One warp brings blocks of keys and values into a ring, two warpgroups attend
// with 64 packed rows each: while one computes probabilities, the other multiplies.
#include "backends/cuda/kernels/attention_block.cuh"
#include "backends/cuda/kernels/attention_tiles.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/tensor_map.h"
#include "backends/cuda/kernels/wgmma.cuh"

namespace cajal::cuda {
namespace {

constexpr int kGroups = 2, kGroupThreads = 128, kGroupRows = 64, kThreads = (kGroups + 1) * kGroupThreads, kStages = 3;
constexpr int kPackedRows = kGroups * kGroupRows;
constexpr float kLog2E = 1.4426950408889634f;

template <int D>
struct Shared {
  static constexpr int kBlockBytes = kBlock * D * 2, kQBytes = kPackedRows * D * 2;
  static constexpr int kRing = kQBytes, kTotal = kRing + 2 * kStages * kBlockBytes;
  static constexpr int kBytes = kTotal + kGroups * kGroupThreads * (D / 2) * 4 + 1024;
};

struct Barriers {
  std::uint64_t q, k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
};

// Where one is in the ring.
struct Turn {
  int stage = 0, parity = 0;
  __device__ void next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

struct Blocks {
  int begin, end;
};

// Blocks that rows [begin, end) see, of one sequence; none if there are none.
__device__ Blocks blocks_of(const AttentionArgs& a, int begin, int end, int& end_position) {
  int first = INT_MAX;
  end_position = 0;
  for (int row = begin; row < end; ++row) {
    const Span s = visible(a, row);
    first = min(first, s.begin), end_position = max(end_position, s.end);
  }
  return begin < end ? Blocks{first / kBlock, (end_position + kBlock - 1) / kBlock} : Blocks{0, 0};
}

// body(sequence, first row, end row) for each run of rows of one sequence.
template <class Body>
__device__ void for_sequences(const AttentionArgs& a, int first, int end, const Body& body) {
  for (int row = first; row < end;) {
    const int seq = a.seq_indices[row];
    int last = row + 1;
    while (last < end && a.seq_indices[last] == seq) ++last;
    body(seq, row, last);
    row = last;
  }
}

template <int D>
__device__ void produce(const AttentionArgs& a, const CUtensorMap* q, const CUtensorMap* k, const CUtensorMap* v,
                        Barriers& bars, std::uint32_t base, int kv_head, int first, int end) {
  using S = Shared<D>;
  const int group = a.num_heads / a.num_kv_heads, tokens = kPackedRows / group;
  barrier_expect(&bars.q, tokens * group * D * 2);
  for (int half = 0; half < D / 64; ++half)
    copy_tensor(base + half * kPackedRows * 128, q, half * 64, kv_head * group, first, &bars.q);
  Turn turn;
  turn.parity = 1;
  for_sequences(a, first, end, [&](int seq, int row, int last) {
    int end_position;
    const Blocks blocks = blocks_of(a, row, last, end_position);
    const std::int32_t* table = a.block_tables + static_cast<std::int64_t>(seq) * a.max_blocks_per_seq;
    for (int block = blocks.begin; block < blocks.end; ++block) {
      const int at = (table[block] * a.num_kv_heads + kv_head) * kBlock;
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
  });
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
  __device__ Consumer(const AttentionArgs& a, Barriers& bars, unsigned char* shared, int kv_head, int first, int end)
      : a_(a),
        bars_(bars),
        shared_(shared),
        base_(shared_address(shared)),
        group_(a.num_heads / a.num_kv_heads),
        first_(first),
        end_(end),
        kv_head_(kv_head) {}

  __device__ void run() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total_m_[h] = -INFINITY, total_l_[h] = 0;
      row_[h] = first_ + packed(h) / group_;
      mine_[h] =
          packed(h) < kPackedRows / group_ * group_ && row_[h] < end_ && through_tiles(a_, row_[h] / kGroup * kGroup);
    }
#pragma unroll
    for (int i = 0; i < D / 4; ++i) total_at(i) = {0, 0};
    barrier_wait(&bars_.q, 0);
    if (warpgroup_ == 1) give_turn();
    for_sequences(a_, first_, end_, [&](int seq, int row, int last) { run_sequence(row, last); });
    write();
  }

 private:
  using S = Shared<D>;

  __device__ int packed(int h) const { return warpgroup_ * kGroupRows + warp_ * 16 + lane_ / 4 + h * 8; }
  __device__ float2& total_at(int i) {
    return reinterpret_cast<float2*>(shared_ + S::kTotal)[i * (kGroups * kGroupThreads) + threadIdx.x - kGroupThreads];
  }
  __device__ std::uint32_t keys(int stage) const { return base_ + S::kRing + stage * 2 * S::kBlockBytes; }
  __device__ std::uint32_t values(int stage) const { return keys(stage) + S::kBlockBytes; }
  __device__ void release(std::uint64_t* empty) const {
    if (lane_ == 0) barrier_arrive(empty);
  }

  __device__ void run_sequence(int begin_row, int end_row) {
    whole_begin_ = 0, whole_end_ = INT_MAX;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      in_sequence_[h] = mine_[h] && row_[h] >= begin_row && row_[h] < end_row;
      const Span span = span_of(h);
      whole_begin_ = max(whole_begin_, span.begin), whole_end_ = min(whole_end_, span.end);
    }
    whole_begin_ = __reduce_max_sync(~0u, whole_begin_), whole_end_ = __reduce_min_sync(~0u, whole_end_);
    int end_position, unused;
    const Blocks all = blocks_of(a_, begin_row, end_row, end_position);
    const int group_first = first_ + warpgroup_ * kGroupRows / group_,
              group_end = first_ + ((warpgroup_ + 1) * kGroupRows - 1) / group_ + 1;
    const Blocks own = blocks_of(a_, max(begin_row, group_first), min(end_row, group_end), unused);
    int block = all.begin;
    const int own_begin = own.begin < own.end ? own.begin : all.end;
    for (; block < own_begin; ++block) pass();
    if (own.begin < own.end) {
      begin_scores();
      bool first = true;
      for (; block + 1 < own.end; ++block, first = block % kBlocksPerPiece == 0)
        first ? attend<true, false>(block, end_position) : attend<false, false>(block, end_position);
      first ? attend<true, true>(block, end_position) : attend<false, true>(block, end_position);
      ++block;
    }
    for (; block < all.end; ++block) pass();
  }

  // A block that no row of the warpgroup sees.
  __device__ void pass() {
    barrier_wait(&bars_.k_full[turn_.stage], turn_.parity);
    release(&bars_.k_empty[turn_.stage]);
    barrier_wait(&bars_.v_full[turn_.stage], turn_.parity);
    release(&bars_.v_empty[turn_.stage]);
    turn_.next();
    take_turn();
    give_turn();
  }

  // The warpgroups multiply in turns, so that one's products hide the other's probabilities.
  __device__ void take_turn() const { asm volatile("bar.sync %0, 256;" ::"r"(warpgroup_ + 3) : "memory"); }
  __device__ void give_turn() const { asm volatile("bar.arrive %0, 256;" ::"r"(4 - warpgroup_) : "memory"); }

  // Starts the scores of the block whose turn it is.
  __device__ void begin_scores() { begin_scores(turn_); }
  __device__ void begin_scores(const Turn& turn) {
    barrier_wait(&bars_.k_full[turn.stage], turn.parity);
    const std::uint64_t q = swizzled_descriptor(base_ + warpgroup_ * kGroupRows * 128),
                        k = swizzled_descriptor(keys(turn.stage));
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < D / 16; ++step)
      wgmma_k16_to<kBlock>(reinterpret_cast<float(&)[kBlock / 2]>(s_),
                           q + (((step / 4) * kPackedRows * 128 + step % 4 * 32) >> 4),
                           k + (((step / 4) * kBlock * 128 + step % 4 * 32) >> 4), step > 0);
    wgmma_commit();
  }

  __device__ Span span_of(int h) const { return in_sequence_[h] ? visible(a_, row_[h]) : Span{0, 0}; }

  // The block whose scores have begun; those of the next begin while this one's values are multiplied. kFirst: of a piece.
  template <bool kFirst, bool kLast>
  __device__ void attend(int block, int end_position) {
    const int first = block * kBlock, stage = turn_.stage, parity = turn_.parity;
    wgmma_wait<0>();
    release(&bars_.k_empty[stage]);
    Partial<D> other;
    Partial<D>& part = kFirst ? state_ : other;
    if (first < whole_begin_ || first + kBlock > whole_end_) {
      const Span spans[2] = {span_of(0), span_of(1)};
      mask_block(s_, first, spans);
    }
    whole_block_softmax(s_, a_.scale * kLog2E, part.m, part.l);
    std::uint32_t p[kBlock / 16][4];
#pragma unroll
    for (int i = 0; i < kBlock / 4; ++i) p[i / 4][i % 4] = pack_bf16(s_[i / 2][i % 2 * 2], s_[i / 2][i % 2 * 2 + 1]);
    barrier_wait(&bars_.v_full[stage], parity);
    if (first + kBlock > end_position) clear_values(values(stage), end_position - first);
    const std::uint64_t v = transposed_descriptor(values(stage), kBlock * 128);
    auto& o = reinterpret_cast<float(&)[D / 2]>(part.o);
    take_turn();
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kBlock / 16; ++step)
      wgmma_k16_from_registers<D>(o, p[step], v + (step * 2048 >> 4), step > 0);
    wgmma_commit();
    turn_.next();
    if constexpr (kLast) {
      give_turn();
      wgmma_wait<0>();
    } else {
      begin_scores(turn_);
      give_turn();
      wgmma_wait<1>();
    }
    release(&bars_.v_empty[stage]);
    if constexpr (!kFirst) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const SafeMerge by(state_.m[h], part.m[h]);
        state_.m[h] = by.m;
        state_.l[h] = by(state_.l[h], part.l[h]);
#pragma unroll
        for (int j = 0; j < D / 8; ++j)
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; ++e) state_.o[j][e] = by(state_.o[j][e], part.o[j][e]);
      }
    }
    if (kLast || (block + 1) % kBlocksPerPiece == 0) finish_piece();
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
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const SafeMerge by(total_m_[h], state_.m[h]);
      total_m_[h] = by.m;
      total_l_[h] = by(total_l_[h], state_.l[h]);
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        float2& at = total_at(j * 2 + h);
        const float2 t = at;
        at = {by(t.x, state_.o[j][2 * h]), by(t.y, state_.o[j][2 * h + 1])};
      }
    }
  }

  __device__ void write() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (!mine_[h]) continue;
      bf16* y = static_cast<bf16*>(a_.y) +
                (static_cast<std::int64_t>(row_[h]) * a_.num_heads + kv_head_ * group_ + packed(h) % group_) * D;
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        const float2 t = total_at(j * 2 + h);
        *reinterpret_cast<std::uint32_t*>(y + j * 8 + lane_ % 4 * 2) = pack_bf16(t.x / total_l_[h], t.y / total_l_[h]);
      }
    }
  }

  const AttentionArgs& a_;
  Barriers& bars_;
  unsigned char* shared_;
  std::uint32_t base_;
  int group_, first_, end_, kv_head_;
  int warpgroup_ = static_cast<int>(threadIdx.x) / kGroupThreads - 1, warp_ = threadIdx.x / 32 % 4,
      lane_ = threadIdx.x % 32;
  int row_[2];
  bool mine_[2], in_sequence_[2];
  int whole_begin_ = 0, whole_end_ = 0;  // what all rows of the warp see
  Turn turn_;
  float s_[kBlock / 8][4];
  float total_m_[2], total_l_[2];
  Partial<D> state_;
};

// Grid: kv heads x tiles, those that see most first.
template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_wgmma_kernel(const __grid_constant__ AttentionArgs a, const __grid_constant__ CUtensorMap q,
                           const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v) {
  extern __shared__ unsigned char dynamic[];
  __shared__ Barriers bars;
  follow_previous();
  const int per_tile = kPackedRows / (a.num_heads / a.num_kv_heads);
  const int first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * per_tile,
            end = min(a.rows.count(), first + per_tile);
  bool any = false;
  for (int g = first / kGroup * kGroup; g < end; g += kGroup) any = any || through_tiles(a, g);
  if (!any) return;
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
  __syncthreads();
  const int kv_head = static_cast<int>(blockIdx.x);
  if (threadIdx.x < kGroupThreads) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x == 0) produce<D>(a, &q, &k, &v, bars, shared_address(shared), kv_head, first, end);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    Consumer<D>(a, bars, shared, kv_head, first, end).run();
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
