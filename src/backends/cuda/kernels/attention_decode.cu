// attention_decode: every thread block brings its share of the cache through one ring, K and V of a block of 64 positions
// by turns, beginning before the kernel that makes qkv has ended. Four warps take the blocks by turns and hand the state of
// a piece on in ascending order. Keys and values of this step's rows come from qkv, whoever sees them; the thread block that
// has a row's last position writes them to the cache. What several have of a row, the last of them merge.
#include <algorithm>

#include "backends/cuda/kernels/attention_cache.cuh"
#include "backends/cuda/kernels/attention_deal.cuh"
#include "backends/cuda/kernels/attention_merge.cuh"
#include "backends/cuda/kernels/heads.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace cajal::cuda {
namespace {

constexpr int kWarps = kMergeWarps, kThreads = kWarps * 32, kListed = 512;
constexpr int kSlots = 4, kBlocksPerMultiprocessor = 2;
constexpr int kMostBlocks = 1 << 12, kMostMerged = 1536;  // of a row: what the list of slots has room for
using Work = MergeWork<kMostMerged>;
constexpr float kLog2E = 1.4426950408889634f;

// kHalves: 1 where at most 8 heads share keys, which leaves rows 8 to 15 of the matrix instruction empty, else 2.
template <int D, int kHalves>
struct Shared {
  static constexpr int kBlockBytes = kBlock * D * 2, kQBytes = 8 * kHalves * D * 2;
  static constexpr int kPairs = D / 8 * kHalves;  // of numbers that a thread has of a state
  static constexpr int kQ = kSlots * kBlockBytes, kState = kQ + kWarps * kQBytes, kTotal = kState + kPairs * 32 * 8;
  static constexpr int kMerge = kTotal + kPairs * 32 * 8, kBytes = kMerge + 2 * sizeof(Work) + 1024;
};

struct Common {
  Deal deal;
  int physical[kListed];  // the cache's blocks of the share
  std::uint64_t full[kSlots], turn[kWarps];
  int asked[kSlots];         // how often a slot was asked for: parity alone does not tell rounds apart
  float m[2][16], l[2][16];  // of the state and of the total
};

template <int D, int kHalves>
class DecodeWarp {
 public:
  __device__ DecodeWarp(const AttentionDecodeArgs& args, const DealSizes& sizes, const CUtensorMap* k,
                        const CUtensorMap* v, Common& common, unsigned char* shared)
      : args_(args), a_(args.attention), sizes_(sizes), k_(k), v_(v), c_(common), shared_(shared) {
    ring_ = shared_address(shared);
    q_ = ring_ + S::kQ + warp_ * S::kQBytes;
    count_ = c_.deal.end - c_.deal.begin;
  }

  // By one thread, before anything else.
  __device__ void fill_ring() {
#pragma unroll 1
    for (int n = 0; n < kSlots; ++n) fetch(n);
  }

  __device__ void run() {
#pragma unroll 1
    for (int j = warp_; j < count_; j += kWarps) {
      const int g = c_.deal.begin + j;
      const bool new_item = !item_.has(g) || item_.row < 0;
      if (new_item) item_ = DealtItem(a_, c_.deal, sizes_, g);
      block_ = item_.first_block + g - item_.begin;
      has_own_ = block_ == item_.first_block + item_.blocks - 1;
      load_rows(new_item);
      attend(j);
      hand_on(j, g);
    }
  }

 private:
  using S = Shared<D, kHalves>;
  static constexpr int kLanes = kHeadLanes<D>, kTogether = 32 / kLanes;  // heads that a warp does at once

  __device__ int physical(int j, const DealtItem& item) const {
    if (j < kListed) return c_.physical[j];
    return a_.block_tables[static_cast<std::int64_t>(c_.deal.seqs[item.row]) * a_.max_blocks_per_seq +
                           item.first_block + c_.deal.begin + j - item.begin];
  }

  // By lane 0: block n / 2 of the share, its keys or its values.
  __device__ void fetch(int n) {
    const int j = n / 2, slot = n % kSlots;
    if (j >= count_) return;
    if (ahead_.row < 0 || !ahead_.has(c_.deal.begin + j)) ahead_ = DealtItem(a_, c_.deal, sizes_, c_.deal.begin + j);
    const int row = (physical(j, ahead_) * a_.num_kv_heads + ahead_.kv_head) * kBlock;
    barrier_expect(&c_.full[slot], S::kBlockBytes);
#pragma unroll
    for (int half = 0; half < D / 64; ++half)
      copy_read_once(ring_ + slot * S::kBlockBytes + half * kBlock * 128, n % 2 ? v_ : k_, half * 64, row,
                     &c_.full[slot]);
    __threadfence_block();
    *const_cast<volatile int*>(&c_.asked[slot]) = n / kSlots + 1;
  }
  __device__ std::uint32_t arrived(int n) const {
    while (*const_cast<volatile int*>(&c_.asked[n % kSlots]) <= n / kSlots) __nanosleep(20);
    barrier_wait(&c_.full[n % kSlots], n / kSlots & 1);
    return ring_ + n % kSlots * S::kBlockBytes;
  }
  __device__ void done_with(int n) {
    __syncwarp();
    if (lane_ == 0) fetch(n + kSlots);
  }

  __device__ HalvesOfHead raw(int row, int head) const { return head_of_step<D>(args_, row, head, sub_); }
  __device__ HalvesOfHead angles(int row) const { return angles_of_step<D>(args_, row, sub_); }

  // Queries to shared memory, and the row's own key and value to registers, all of them asked for at once.
  __device__ void load_rows(bool queries) {
    if (!queries && !has_own_) return;
    constexpr int kPasses = 8 * kHalves / kTogether;
    const int first = item_.first_head(sizes_), last = item_.heads(sizes_) - 1, row = item_.row, kv = item_.kv_head;
    HalvesOfHead q[kPasses];
#pragma unroll
    for (int i = 0; i < kPasses; ++i)
      if (i * kTogether <= last) q[i] = raw(row, first + min(i * kTogether + group_, last));
    const HalvesOfHead turn = angles(row), of_q = load_head<D>(args_.heads.q_norm, sub_),
                       of_k = load_head<D>(args_.heads.k_norm, sub_);
    key_ = raw(row, a_.num_heads + kv), value_ = raw(row, a_.num_heads + a_.num_kv_heads + kv);
    key_ = norm_and_rotate<D>(key_, of_k, turn, args_.heads.epsilon);
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      if (i * kTogether > last) break;
      q[i] = norm_and_rotate<D>(q[i], of_q, turn, args_.heads.epsilon);
      const int head = i * kTogether + group_;
      store_shared(q_ + row_chunk<D>(head, sub_), q[i].lo);
      store_shared(q_ + row_chunk<D>(head, sub_ + kLanes), q[i].hi);
    }
    if (has_own_ && item_.part == 0) write_own();
    __syncwarp();
  }
  __device__ void write_own() const {
    if (group_ > 1) return;
    const int slot = c_.deal.slots[item_.row];
    store_head<D>(
        cache_row<D>(group_ ? args_.heads.v_cache : args_.heads.k_cache, slot, item_.kv_head, a_.num_kv_heads), sub_,
        group_ ? value_ : key_);
  }

  // What this step's rows leave in the block of the cache, which may not have it yet; positions from `limit` on are
  // not seen.
  __device__ void patch(std::uint32_t to, int id, int limit, bool keys) {
    const int slot = lane_ < c_.deal.rows ? c_.deal.slots[lane_] : -1;
    unsigned hits = __ballot_sync(~0u, slot >= 0 && slot / kBlock == id && slot % kBlock < limit);
    bool any = hits != 0;
#pragma unroll 1
    for (; hits; hits &= hits - 1) {
      const int row = __ffs(static_cast<int>(hits)) - 1;
      HalvesOfHead v = keys ? key_ : value_;
      if (row != item_.row || !has_own_) {
        v = raw(row, a_.num_heads + (keys ? 0 : a_.num_kv_heads) + item_.kv_head);
        if (keys) v = norm_and_rotate<D>(v, load_head<D>(args_.heads.k_norm, sub_), angles(row), args_.heads.epsilon);
      }
      if (group_ > 0) continue;
      store_shared(to + InHalves<D>::at(c_.deal.slots[row] % kBlock, sub_), v.lo);
      store_shared(to + InHalves<D>::at(c_.deal.slots[row] % kBlock, sub_ + kLanes), v.hi);
    }
    if (!keys && limit < kBlock) {  // a slot that was never written must not meet a probability of zero
      any = true;
#pragma unroll 4
      for (int i = lane_; i < (kBlock - limit) * (D / 8); i += 32)
        store_shared(to + InHalves<D>::at(limit + i / (D / 8), i % (D / 8)), {0, 0, 0, 0});
    }
    if (any) asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncwarp();
  }

  __device__ void attend(int j) {
    const int id = physical(j, item_), first = block_ * kBlock, end = c_.deal.ends[item_.row];
    const Span span{Deal::first_seen(a_, end), end};
    const Span spans[2] = {span, span};
    float s[kBlock / 8][4];
    std::uint32_t at = arrived(2 * j);
    patch(at, id, kBlock, true);
    scores(at, s);
    done_with(2 * j);
    if (span.begin <= first && span.end >= first + kBlock)
      whole_block_softmax(s, a_.scale * kLog2E, part_.m, part_.l);
    else
      block_softmax(s, a_.scale * kLog2E, first, spans, part_.m, part_.l);
    if constexpr (kHalves == 1)
#pragma unroll
      for (auto& column : s) column[2] = column[3] = 0;
    at = arrived(2 * j + 1);
    patch(at, id, min(kBlock, end - first), false);
    block_values<D, InHalves<D>>(s, at, part_.o);
    done_with(2 * j + 1);
  }

  // As block_scores; of eight rows of queries one instruction brings two steps.
  __device__ void scores(std::uint32_t k, float (&s)[kBlock / 8][4]) const {
    if constexpr (kHalves == 2) return block_scores<D, InHalves<D>>(q_, k, s);
    const int matrix = lane_ / 8, in = lane_ % 8;
#pragma unroll
    for (auto& column : s)
#pragma unroll
      for (float& v : column) v = 0;
#pragma unroll
    for (int two = 0; two < D / 32; ++two) {
      std::uint32_t q[4];
      ldmatrix_x4(q, q_ + row_chunk<D>(in, two * 4 + matrix));
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const std::uint32_t x[4] = {q[2 * h], 0, q[2 * h + 1], 0};
#pragma unroll
        for (int n = 0; n < kBlock / 8; n += 2) {
          std::uint32_t y[4];
          ldmatrix_x4(y, k + InHalves<D>::at((n + matrix / 2) * 8 + in, (two * 2 + h) * 2 + (matrix & 1)));
          mma_16816(s[n], x, y[0], y[1]);
          mma_16816(s[n + 1], x, y[2], y[3]);
        }
      }
    }
  }

  // The block into the piece, in its turn; what is complete, or ends here, goes on.
  __device__ void hand_on(int j, int g) {
    if (j > 0) barrier_wait(&c_.turn[(j - 1) % kWarps], (j - 1) / kWarps & 1);
    const int piece = item_.piece_of(g), begin = item_.piece_begin(piece), end = item_.piece_end(piece);
    const bool whole = item_.begin >= c_.deal.begin && item_.begin + item_.blocks <= c_.deal.end;
    const bool single = begin < c_.deal.begin;  // the piece began in another share
    add(0, single || g == begin);
    if (!single && g + 1 < end && g + 1 < c_.deal.end) {
      keep(0);
    } else if (!whole) {
      leave(single ? sizes_.most_pieces + static_cast<int>(blockIdx.x) * kSinglesPerShare + j
                   : item_.first_piece(c_.deal) + piece);
    } else {
      add(1, piece == 0);
      if (end == item_.begin + item_.blocks)
        write();
      else
        keep(1);
    }
    __syncwarp();
    if (lane_ == 0) barrier_arrive(&c_.turn[j % kWarps]);
  }

  __device__ float2* kept(int which) const {
    return reinterpret_cast<float2*>(shared_ + (which ? S::kTotal : S::kState)) + lane_;
  }
  // part_ = what is kept, or nothing if `first`, and part_.
  __device__ void add(int which, bool first) {
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const int head = lane_ / 4 + h * 8;
      const float m = first ? -INFINITY : c_.m[which][head], l = first ? 0 : c_.l[which][head];
      const Merge by(m, part_.m[h]);
      part_.m[h] = by.m, part_.l[h] = by(l, part_.l[h]);
#pragma unroll
      for (int i = 0; i < D / 8; ++i) {
        const float2 o = first ? float2{0, 0} : kept(which)[(i * kHalves + h) * 32];
        part_.o[i][2 * h] = by(o.x, part_.o[i][2 * h]);
        part_.o[i][2 * h + 1] = by(o.y, part_.o[i][2 * h + 1]);
      }
    }
    __syncwarp();
  }
  __device__ void keep(int which) const {
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const int head = lane_ / 4 + h * 8;
      if (lane_ % 4 == 0) c_.m[which][head] = part_.m[h], c_.l[which][head] = part_.l[h];
#pragma unroll
      for (int i = 0; i < D / 8; ++i) kept(which)[(i * kHalves + h) * 32] = {part_.o[i][2 * h], part_.o[i][2 * h + 1]};
    }
  }
  __device__ void leave(int slot) const {
    float* to = args_.slots + static_cast<std::int64_t>(slot) * sizes_.slot_floats;
    constexpr int kSlices = D / kSlice;
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const int head = lane_ / 4 + h * 8, part = lane_ % 4;
      if (head >= item_.heads(sizes_)) continue;
      float* of_head = to + head * kSlices * kSliceFloats;
#pragma unroll
      for (int i = 0; i < D / 8; ++i)
        store_relaxed(of_head + i / (kSlice / 8) * kSliceFloats + i % (kSlice / 8) * 8 + part * 2,
                      both(part_.o[i][2 * h], part_.o[i][2 * h + 1]));
      if (part < kSlices) store_relaxed(of_head + part * kSliceFloats + kSlice, both(part_.m[h], part_.l[h]));
    }
  }
  __device__ void write() const {
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const int head = lane_ / 4 + h * 8;
      if (head >= item_.heads(sizes_)) continue;
      bf16* y = static_cast<bf16*>(a_.y) +
                (static_cast<std::int64_t>(item_.row) * a_.num_heads + item_.first_head(sizes_) + head) * D;
#pragma unroll
      for (int i = 0; i < D / 8; ++i)
        *reinterpret_cast<std::uint32_t*>(y + i * 8 + lane_ % 4 * 2) =
            pack_bf16(part_.o[i][2 * h] / part_.l[h], part_.o[i][2 * h + 1] / part_.l[h]);
    }
  }

  const AttentionDecodeArgs& args_;
  const AttentionArgs& a_;
  const DealSizes& sizes_;
  const CUtensorMap *k_, *v_;
  Common& c_;
  unsigned char* shared_;
  std::uint32_t ring_, q_;
  int count_, block_ = 0, warp_ = threadIdx.x / 32, lane_ = threadIdx.x % 32;
  int sub_ = threadIdx.x % kHeadLanes<D>, group_ = threadIdx.x % 32 / kHeadLanes<D>;
  bool has_own_ = false;
  DealtItem item_, ahead_;
  HalvesOfHead key_{}, value_{};  // the row's own, where it has its last block
  Partial<D> part_;
};

template <int D, int kHalves>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    attention_decode_kernel(const __grid_constant__ AttentionDecodeArgs args, const __grid_constant__ DealSizes sizes,
                            const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v) {
  extern __shared__ unsigned char dynamic[];
  const std::uint32_t start = shared_address(dynamic);
  unsigned char* shared = dynamic + ((start + 1023) / 1024 * 1024 - start);
  __shared__ Common common;
  let_next_begin();
  if (threadIdx.x == 32)
    asm volatile("prefetch.tensormap [%0];\nprefetch.tensormap [%1];" ::"l"(&k), "l"(&v) : "memory");
  if (threadIdx.x < kSlots) barrier_init(&common.full[threadIdx.x], 1), common.asked[threadIdx.x] = 0;
  if (threadIdx.x < kWarps) barrier_init(&common.turn[threadIdx.x], 1);
  barrier_fence_init();
  const Deal& deal = common.deal;
  if (threadIdx.x < 32) common.deal.make(args, sizes);
  __syncthreads();
  const int begin = deal.begin, count = deal.end - begin;
  if (count == 0 && blockIdx.x > 0) return;  // one has to wait, so that the next kernel finds all before it done
#pragma unroll 1
  for (int j = threadIdx.x; j < min(kListed, count); j += kThreads) {
    const AttentionArgs& a = args.attention;
    const DealtItem item(a, deal, sizes, begin + j);
    common.physical[j] = a.block_tables[static_cast<std::int64_t>(deal.seqs[item.row]) * a.max_blocks_per_seq +
                                        item.first_block + begin + j - item.begin];
  }
  __syncthreads();
  DecodeWarp<D, kHalves> warp(args, sizes, &k, &v, common, shared);
  if (threadIdx.x == 0) warp.fill_ring();
  auto* merge = reinterpret_cast<Work*>(shared + Shared<D, kHalves>::kMerge);
  const int number = static_cast<int>(threadIdx.x) / 32 - 1;
  if (number == 0 || number == 1) {
    if (threadIdx.x % 32 == 0) merge[number].count = 0;
    __syncwarp();
    const bool same = count == 0 || DealtItem(args.attention, deal, sizes, begin).has(deal.end - 1);
    if (count > 0 && (number == 0 || !same))
      merge[number].find(args.attention, sizes, deal, number == 0 ? begin : deal.end - 1);
  }
  wait_for_previous();
  warp.run();
  __syncthreads();  // the ring is free
  auto& stage = reinterpret_cast<MergeStage*>(shared)[threadIdx.x / 32];
#pragma unroll 1
  for (int i = 0; i < 2; ++i) merge[i].run(args.attention, args.slots, stage);
}

template <int D, int kHalves>
bool launch(const AttentionDecodeArgs& args, const DealSizes& sizes, cudaStream_t stream) {
  CUtensorMap k, v;
  if (!make_cache_maps<D>(args.attention, k, v)) return false;
  constexpr int kBytes = Shared<D, kHalves>::kBytes;
  cudaFuncSetAttribute(attention_decode_kernel<D, kHalves>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  launch_kernel(attention_decode_kernel<D, kHalves>,
                std::min(multiprocessors(), kMostMultiprocessors) * kBlocksPerMultiprocessor, kThreads, kBytes, stream,
                args, sizes, k, v);
  return true;
}

}  // namespace

bool attention_decode_accepts(const AttentionShape& s) {
  return attention_mma_accepts(s) && s.rows <= kMostDecodeAttentionRows && s.max_blocks_per_seq <= kMostBlocks;
}
std::size_t attention_decode_bytes(const AttentionShape& shape) {
  const DealSizes sizes(shape);
  const std::int64_t singles = kMostMultiprocessors * kBlocksPerMultiprocessor * kSinglesPerShare;
  return static_cast<std::size_t>((sizes.most_pieces + singles) * sizes.slot_floats) * sizeof(float);
}

void attention_decode(const AttentionDecodeArgs& args, cudaStream_t stream) {
  const AttentionArgs& a = args.attention;
  const DealSizes sizes(
      {a.element, a.rows.most, a.num_heads, a.num_kv_heads, a.head_dim, a.block_size, a.max_blocks_per_seq});
  const bool few = sizes.heads <= 8, d64 = a.head_dim == 64;
  const auto kernel = d64 ? (few ? launch<64, 1> : launch<64, 2>) : (few ? launch<128, 1> : launch<128, 2>);
  if (kernel(args, sizes, stream)) return;
  qk_norm_rope_kv_write(args.heads, stream);  // a driver that does not know this device's copies: the same bits
  attention_wgmma(a, stream);
}

}  // namespace cajal::cuda
