// attention_pieces: rows that decode, on sm_90. The blocks of the cache that all rows see are dealt out to warps in equal
// shares, cut where pieces begin. Each warp has the copy engine bring keys and values into a ring of its own and leaves a
// result a piece, or the row's where it has one piece; a second kernel merges the pieces of a row.
#include <algorithm>

#include "backends/cuda/kernels/attention_block.cuh"
#include "backends/cuda/kernels/attention_tiles.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/tensor_map.h"

namespace cajal::cuda {
namespace {

constexpr int kWarps = 6, kThreads = kWarps * 32, kMostEntries = 1024;
constexpr std::size_t kMostSlotBytes = std::size_t{64}
                                       << 20;  // for results of pieces; a step with more goes row by row
constexpr float kLog2E = 1.4426950408889634f;

template <int D>
struct Shared {
  static constexpr int kStages = 256 / D, kBlockBytes = kBlock * D * 2;
  static constexpr int kRing = kStages * kBlockBytes, kWarp = kRing + 16 * D * 2;
  static constexpr int kBytes = kWarps * kWarp + 1024;
};

// Sizes that the host and both kernels agree on. A slot is the result of a piece and up to 16 heads of a group.
struct Sizes {
  int units, heads, slot_floats, most_slots, header_floats;  // units: kv heads, or parts of their groups

  __host__ __device__ Sizes(int num_heads, int num_kv_heads, int head_dim, int rows, int max_blocks) {
    const int group = num_heads / num_kv_heads, parts = (group + 15) / 16;
    units = num_kv_heads * parts, heads = group < 16 ? group : 16, slot_floats = heads * (head_dim + 4);
    const std::int64_t pieces = (max_blocks + kBlocksPerPiece - 1) / kBlocksPerPiece,
                       all = pieces > 1 ? rows * pieces * units : 0,
                       fit = static_cast<std::int64_t>(kMostSlotBytes) / (slot_floats * 4);
    most_slots = static_cast<int>(all < fit ? all : fit);
    header_floats = (kMostEntries + 2 + 31) / 32 * 32;
  }
};

// What a row sees.
struct Extent {
  int first_block, blocks, pieces;
  __device__ Extent(const AttentionArgs& a, int row) {
    const Span s = visible(a, row);
    first_block = s.begin / kBlock, blocks = (s.end + kBlock - 1) / kBlock - first_block;
    pieces = (s.end - 1) / kPiece - s.begin / kPiece + 1;
  }
  __device__ int slots() const { return pieces > 1 ? pieces : 0; }
};

// Blocks and slots before each entry: a row, or kGroup rows where there are many.
struct Deal {
  int blocks[kMostEntries + 1], slots[kMostEntries + 1];
  bool by_pieces;  // else row by row, since there are more results of pieces than fit

  static __host__ __device__ int rows_per_entry(int most) { return most <= kMostEntries ? 1 : kGroup; }

  __device__ void make(const AttentionArgs& a, const Sizes& sizes, int entries) {
    if (rows_per_entry(a.rows.most) == 1)
      count_rows(a, sizes, entries);
    else
      count_groups(a, sizes, entries);
    __syncthreads();
    if (threadIdx.x < 32) {
      const int total = scan(blocks, entries), all_slots = scan(slots, entries);
      if (threadIdx.x == 0)
        blocks[entries] = total, slots[entries] = all_slots, by_pieces = all_slots <= sizes.most_slots;
    }
    __syncthreads();
  }

 private:
  // A thread a row: what through_tiles asks of its group, a half-warp knows together.
  __device__ void count_rows(const AttentionArgs& a, const Sizes& sizes, int rows) {
    for (int first = static_cast<int>(threadIdx.x) / 32 * 32; first < rows; first += kThreads) {
      const int row = first + static_cast<int>(threadIdx.x) % 32, in_group = row % kGroup;
      const bool there = row < rows;
      const int seq = there ? a.seq_indices[row] : 0;
      const Extent e(a, there ? row : 0);
      const bool change = __shfl_up_sync(~0u, seq, 1) != seq && in_group > 0 && there;
      const unsigned of_group = 0xffffu << (row % 32 - in_group);
      const int changes = __popc(__ballot_sync(~0u, change) & of_group),
                size = __popc(__ballot_sync(~0u, there) & of_group);
      if (!there) continue;
      const bool tiles = tiles_for(a.rows.most, changes, size);
      blocks[row] = tiles ? 0 : e.blocks * sizes.units, slots[row] = tiles ? 0 : e.slots() * sizes.units;
    }
  }
  __device__ void count_groups(const AttentionArgs& a, const Sizes& sizes, int groups) {
    for (int g = threadIdx.x; g < groups; g += kThreads) {
      int sum = 0, slot = 0;
      if (!through_tiles(a, g * kGroup))
        for (int row = g * kGroup; row < min(a.rows.count(), (g + 1) * kGroup); ++row) {
          const Extent e(a, row);
          sum += e.blocks * sizes.units, slot += e.slots() * sizes.units;
        }
      blocks[g] = sum, slots[g] = slot;
    }
  }

  // The sums before each, by one warp; the sum of all.
  static __device__ int scan(int* x, int count) {
    const int lane = threadIdx.x;
    int carry = 0;
    for (int first = 0; first < count; first += 32) {
      const int own = first + lane < count ? x[first + lane] : 0;
      int sum = own;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
      }
      if (first + lane < count) x[first + lane] = carry + sum - own;
      carry += __shfl_sync(~0u, sum, 31);
    }
    return carry;
  }
};

// Blocks [block, end) of what a row and unit see: a piece, or all.
struct Item {
  int row, unit, block, end, slot;
  bool whole;  // nothing else of this row and unit
};

// A warp's share, item by item.
class Walk {
 public:
  __device__ Walk(const AttentionArgs& a, const Sizes& sizes, const Deal& deal, int entries, int share, int shares)
      : a_(a), sizes_(sizes), deal_(deal), per_(Deal::rows_per_entry(a.rows.most)) {
    const std::int64_t total = deal.blocks[entries];
    at_ = static_cast<int>(total * share / shares), end_ = static_cast<int>(total * (share + 1) / shares);
    int low = 0, high = entries;  // the entry that at_ lies in
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (deal.blocks[middle] <= at_ ? low : high) = middle;
    }
    enter(low);
  }

  __device__ bool next(Item& item) {
    while (at_ < end_) {
      while (at_ >= deal_.blocks[entry_ + 1]) enter(entry_ + 1);
      Extent e(a_, row_);
      for (; at_ >= row_at_ + e.blocks * sizes_.units; e = Extent(a_, row_))
        row_at_ += e.blocks * sizes_.units, row_slot_ += e.slots() * sizes_.units, ++row_;
      const int local = at_ - row_at_, unit = local / e.blocks, offset = local % e.blocks,
                block = e.first_block + offset;
      const int last = e.first_block + e.blocks;
      const int end = deal_.by_pieces ? min((block / kBlocksPerPiece + 1) * kBlocksPerPiece, last) : last;
      at_ += end - block;
      if (offset > 0 && (!deal_.by_pieces || block % kBlocksPerPiece != 0)) continue;  // begins in another share
      const int piece = block / kBlocksPerPiece - e.first_block / kBlocksPerPiece;
      item = {row_, unit, block, end, row_slot_ + unit * e.pieces + piece, end - block == e.blocks};
      return true;
    }
    return false;
  }

 private:
  __device__ void enter(int entry) {
    entry_ = entry, row_ = entry * per_, row_at_ = deal_.blocks[entry], row_slot_ = deal_.slots[entry];
  }

  const AttentionArgs& a_;
  const Sizes& sizes_;
  const Deal& deal_;
  int per_, at_, end_, entry_, row_, row_at_, row_slot_;
};

template <int D>
class Warp {
 public:
  __device__ Warp(const AttentionArgs& a, const CUtensorMap* k, const CUtensorMap* v, const Sizes& sizes,
                  const Walk& walk, std::uint32_t shared, std::uint64_t* full)
      : a_(a), k_(k), v_(v), sizes_(sizes), walk_(walk), ahead_(walk), shared_(shared), full_(full) {
    const int group = a.num_heads / a.num_kv_heads;
    parts_ = (group + 15) / 16;
  }

  __device__ void run(float* slots, float2* total) {
    if (lane_ == 0)
      for (int i = 0; i < S::kStages; ++i) fetch();
    Item item{};
    while (walk_.next(item)) {
      load_queries(item);
      const Span span = visible(a_, item.row);
      float total_m[2] = {-INFINITY, -INFINITY}, total_l[2] = {0, 0};
      state_.clear();
      const bool one_piece = item.block / kBlocksPerPiece == (item.end - 1) / kBlocksPerPiece;
      for (int block = item.block; block < item.end; ++block) {
        attend(block * kBlock, span);
        const bool last = block + 1 == item.end;
        if (one_piece || (!last && (block + 1) % kBlocksPerPiece != 0)) continue;
        add_piece(total, total_m, total_l, block / kBlocksPerPiece == item.block / kBlocksPerPiece);
        if (!last) state_.clear();
      }
      if (!item.whole)
        store(slots + static_cast<std::int64_t>(item.slot) * sizes_.slot_floats, item);
      else
        write(item);
    }
  }

 private:
  using S = Shared<D>;

  __device__ int first_head(const Item& item) const {
    return item.unit / parts_ * (a_.num_heads / a_.num_kv_heads) + item.unit % parts_ * 16;
  }
  __device__ int heads(const Item& item) const {
    return min(16, (item.unit / parts_ + 1) * (a_.num_heads / a_.num_kv_heads) - first_head(item));
  }

  // By lane 0: the next keys or values of the share, into the stage that is free.
  __device__ void fetch() {
    if (!fetch_values_) {
      if (fetch_block_ == fetched_.end) {
        if (!ahead_.next(fetched_)) return;
        fetch_block_ = fetched_.block;
        table_ = a_.block_tables + static_cast<std::int64_t>(a_.seq_indices[fetched_.row]) * a_.max_blocks_per_seq;
      }
      cache_row_ = (table_[fetch_block_++] * a_.num_kv_heads + fetched_.unit / parts_) * kBlock;
    }
    std::uint64_t* full = &full_[fetch_stage_];
    barrier_expect(full, S::kBlockBytes);
#pragma unroll
    for (int half = 0; half < D / 64; ++half)
      copy_tensor(shared_ + fetch_stage_ * S::kBlockBytes + half * kBlock * 128, fetch_values_ ? v_ : k_, half * 64,
                  cache_row_, full);
    fetch_values_ = !fetch_values_;
    if (++fetch_stage_ == S::kStages) fetch_stage_ = 0;
  }
  __device__ std::uint32_t arrived() const {
    barrier_wait(&full_[stage_], parity_);
    return shared_ + stage_ * S::kBlockBytes;
  }
  __device__ void done_with_stage() {
    __syncwarp();
    if (lane_ == 0) fetch();
    if (++stage_ == S::kStages) stage_ = 0, parity_ ^= 1;
  }

  __device__ void load_queries(const Item& item) const {
    const bf16* q =
        static_cast<const bf16*>(a_.q) + (static_cast<std::int64_t>(item.row) * a_.num_heads + first_head(item)) * D;
    for (int i = lane_; i < 16 * (D / 8); i += 32) {
      const int head = i / (D / 8), chunk = i % (D / 8);
      const bool there = head < heads(item);
      copy_async_16(shared_ + S::kRing + row_chunk<D>(head, chunk), q + (there ? head * D + chunk * 8 : 0), there);
    }
    copy_async_commit();
    copy_async_wait<0>();
    __syncwarp();
  }

  __device__ void attend(int first, const Span& span) {
    float s[kBlock / 8][4];
    block_scores<D, InHalves<D>>(shared_ + S::kRing, arrived(), s);
    done_with_stage();
    Partial<D> part;
    const Span spans[2] = {span, span};
    if (span.begin <= first && span.end >= first + kBlock)
      whole_block_softmax(s, a_.scale * kLog2E, part.m, part.l);
    else
      block_softmax(s, a_.scale * kLog2E, first, spans, part.m, part.l);
    const std::uint32_t v = arrived();
    if (span.end < first + kBlock) clear_values(v, span.end - first);
    block_values<D, InHalves<D>>(s, v, part.o);
    done_with_stage();
    const bool there[2] = {true, true};
    merge(state_, part, there);
  }

  // Values from `end` on are nobody's: what a slot holds that was never written must not meet a probability of zero.
  __device__ void clear_values(std::uint32_t v, int end) const {
    for (int i = lane_; i < (kBlock - end) * (D / 8); i += 32)
      asm volatile(
          "st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(v + InHalves<D>::at(end + i / (D / 8), i % (D / 8))), "r"(0)
          : "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncwarp();
  }

  // The piece into the row's result, whose numbers lie in memory of the thread's own.
  __device__ void add_piece(float2* total, float (&m)[2], float (&l)[2], bool is_first) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const Merge by(m[h], state_.m[h]);
      m[h] = by.m, l[h] = by(l[h], state_.l[h]);
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        float2& at = total[(j * 2 + h) * 32 + lane_];
        const float2 t = is_first ? float2{0, 0} : at;
        state_.o[j][2 * h] = by(t.x, state_.o[j][2 * h]), state_.o[j][2 * h + 1] = by(t.y, state_.o[j][2 * h + 1]);
        at = {state_.o[j][2 * h], state_.o[j][2 * h + 1]};
      }
      state_.l[h] = l[h];
    }
  }

  __device__ void store(float* slot, const Item& item) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int head = lane_ / 4 + h * 8;
      if (head >= heads(item)) continue;
      float* at = slot + head * (D + 4);
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
        *reinterpret_cast<float2*>(at + j * 8 + lane_ % 4 * 2) = {state_.o[j][2 * h], state_.o[j][2 * h + 1]};
      if (lane_ % 4 == 0) at[D] = state_.m[h], at[D + 1] = state_.l[h];
    }
  }
  __device__ void write(const Item& item) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int head = lane_ / 4 + h * 8;
      if (head >= heads(item)) continue;
      bf16* y =
          static_cast<bf16*>(a_.y) + (static_cast<std::int64_t>(item.row) * a_.num_heads + first_head(item) + head) * D;
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
        *reinterpret_cast<std::uint32_t*>(y + j * 8 + lane_ % 4 * 2) =
            pack_bf16(state_.o[j][2 * h] / state_.l[h], state_.o[j][2 * h + 1] / state_.l[h]);
    }
  }

  const AttentionArgs& a_;
  const CUtensorMap *k_, *v_;
  const Sizes& sizes_;
  Walk walk_, ahead_;  // ahead_: what is fetched
  std::uint32_t shared_;
  std::uint64_t* full_;
  int parts_, lane_ = threadIdx.x % 32, stage_ = 0, parity_ = 0;
  Item fetched_{};
  int fetch_stage_ = 0, fetch_block_ = 0, cache_row_ = 0;
  bool fetch_values_ = false;
  const std::int32_t* table_ = nullptr;
  Partial<D> state_;
};

// Scratch: whether there are pieces to merge, slots before each entry, slots, totals of warps.
template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    attention_pieces_kernel(const __grid_constant__ AttentionArgs a, const __grid_constant__ Sizes sizes,
                            const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v) {
  using S = Shared<D>;
  extern __shared__ unsigned char dynamic[];
  __shared__ Deal deal;
  __shared__ std::uint64_t full[kWarps][S::kStages];
  let_next_begin();
  const int warp = threadIdx.x / 32, per = Deal::rows_per_entry(a.rows.most),
            entries = (a.rows.count() + per - 1) / per;
  if (threadIdx.x < kWarps * S::kStages) barrier_init(&full[0][threadIdx.x], 1);
  barrier_fence_init();
  deal.make(a, sizes, entries);
  wait_for_previous();
  if (blockIdx.x == 0)
    for (int e = threadIdx.x; e <= entries; e += kThreads) reinterpret_cast<int*>(a.scratch)[e + 1] = deal.slots[e];
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *reinterpret_cast<int*>(a.scratch) = deal.by_pieces && deal.slots[entries] > 0;
  if (deal.blocks[entries] == 0) return;
  const int share = warp * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
  const Walk walk(a, sizes, deal, entries, share, static_cast<int>(gridDim.x) * kWarps);
  const std::uint32_t base = (shared_address(dynamic) + 1023) / 1024 * 1024 + warp * S::kWarp;
  float* slots = a.scratch + sizes.header_floats;
  auto* totals = reinterpret_cast<float2*>(slots + static_cast<std::int64_t>(sizes.most_slots) * sizes.slot_floats);
  Warp<D>(a, &k, &v, sizes, walk, base, full[warp]).run(slots, totals + static_cast<std::int64_t>(share) * 16 * D / 2);
}

// One of a row's heads: its pieces in ascending order.
template <int D>
__device__ void merge_pieces(const AttentionArgs& a, const Sizes& sizes, int at) {
  const int lane = threadIdx.x % 32;
  const int row = at / a.num_heads, head = at % a.num_heads, per = Deal::rows_per_entry(a.rows.most);
  const int* header = reinterpret_cast<const int*>(a.scratch);
  const Extent extent(a, row);
  if (extent.pieces == 1 || through_tiles(a, row / kGroup * kGroup)) return;
  std::int64_t slot = header[1 + row / per];
  for (int other = row / per * per; other < row; ++other) slot += Extent(a, other).slots() * sizes.units;
  const int of_group = a.num_heads / a.num_kv_heads, in_group = head % of_group;
  slot += (head / of_group * ((of_group + 15) / 16) + in_group / 16) * extent.pieces;
  constexpr int kNumbers = D / 32, kAtOnce = 4;
  const float* from = a.scratch + sizes.header_floats + slot * sizes.slot_floats + in_group % 16 * (D + 4);
  float m = -INFINITY, l = 0, o[kNumbers] = {};
  for (int piece = 0; piece < extent.pieces; piece += kAtOnce) {
    float pm[kAtOnce], pl[kAtOnce], po[kAtOnce][kNumbers];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float* p = from + static_cast<std::int64_t>(min(piece + i, extent.pieces - 1)) * sizes.slot_floats;
      pm[i] = p[D], pl[i] = p[D + 1];
#pragma unroll
      for (int n = 0; n < kNumbers; ++n) po[i][n] = p[lane * kNumbers + n];
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (piece + i >= extent.pieces) break;
      const Merge by(m, pm[i]);
      m = by.m, l = by(l, pl[i]);
#pragma unroll
      for (int n = 0; n < kNumbers; ++n) o[n] = by(o[n], po[i][n]);
    }
  }
  bf16* y = static_cast<bf16*>(a.y) + static_cast<std::int64_t>(at) * D + lane * kNumbers;
#pragma unroll
  for (int n = 0; n < kNumbers; n += 2) *reinterpret_cast<std::uint32_t*>(y + n) = pack_bf16(o[n] / l, o[n + 1] / l);
}

// A warp a row and head at a time.
template <int D>
__global__ void __launch_bounds__(128)
    attention_merge_kernel(const __grid_constant__ AttentionArgs a, const __grid_constant__ Sizes sizes) {
  follow_previous();
  if (*reinterpret_cast<const int*>(a.scratch) == 0) return;
  const int warps = static_cast<int>(gridDim.x) * 4, all = a.rows.count() * a.num_heads;
  for (int at = static_cast<int>(blockIdx.x) * 4 + static_cast<int>(threadIdx.x) / 32; at < all; at += warps)
    merge_pieces<D>(a, sizes, at);
}

constexpr int kMostMultiprocessors = 256,
              kMergingBlocks = 16;  // on a multiprocessor: prompts may have nothing to merge

template <int D>
bool launch(const AttentionArgs& a, cudaStream_t stream) {
  constexpr std::int64_t kMostRows = std::int64_t{1} << 31;  // of a cache; no more than it has is ever asked for
  const std::int64_t d = D;
  CUtensorMap k, v;
  if (!make_tensor_map(k, a.k_cache, {{d, 0, 64}, {kMostRows, d * 2, kBlock}}, CU_TENSOR_MAP_SWIZZLE_128B) ||
      !make_tensor_map(v, a.v_cache, {{d, 0, 64}, {kMostRows, d * 2, kBlock}}, CU_TENSOR_MAP_SWIZZLE_128B))
    return false;
  const Sizes sizes(a.num_heads, a.num_kv_heads, D, a.rows.most, a.max_blocks_per_seq);
  cudaFuncSetAttribute(attention_pieces_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, Shared<D>::kBytes);
  launch_kernel(attention_pieces_kernel<D>, std::min(multiprocessors(), kMostMultiprocessors), kThreads,
                Shared<D>::kBytes, stream, a, sizes, k, v);
  if (a.max_blocks_per_seq > kBlocksPerPiece)
    launch_kernel(
        attention_merge_kernel<D>,
        static_cast<unsigned>(std::min((a.rows.most * a.num_heads + 3) / 4, kMergingBlocks * multiprocessors())), 128,
        0, stream, a, sizes);
  return true;
}

}  // namespace

std::size_t attention_pieces_scratch(const AttentionShape& s) {
  const Sizes sizes(s.num_heads, s.num_kv_heads, s.head_dim, s.rows, s.max_blocks_per_seq);
  const std::size_t floats = static_cast<std::size_t>(sizes.header_floats) +
                             static_cast<std::size_t>(sizes.most_slots) * static_cast<std::size_t>(sizes.slot_floats) +
                             static_cast<std::size_t>(kMostMultiprocessors * kWarps * 16 * s.head_dim);
  return floats * sizeof(float);
}

bool attention_pieces(const AttentionArgs& a, cudaStream_t stream) {
  if (a.rows.most > kMostEntries * kGroup) return false;
  return a.head_dim == 64 ? launch<64>(a, stream) : launch<128>(a, stream);
}

}  // namespace cajal::cuda
