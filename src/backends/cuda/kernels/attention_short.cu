// attention_short: attention_decode for steps that see few blocks of the cache, made to begin and end soon and to lie beside a
// chain on a multiprocessor: one thread block each, with room for one block of 64 positions. Its four warps do every block
// together: a quarter of the keys each, then a quarter of the columns.
#include <algorithm>

#include "backends/cuda/kernels/attention_cache.cuh"
#include "backends/cuda/kernels/attention_deal.cuh"
#include "backends/cuda/kernels/attention_merge.cuh"
#include "backends/cuda/kernels/division.cuh"
#include "backends/cuda/kernels/heads.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace cajal::cuda {
namespace {

constexpr int kWarps = kMergeWarps, kThreads = kWarps * 32, kListed = 32;
constexpr float kLog2E = 1.4426950408889634f;
constexpr int kMostRegisters = 128;  // so that a warp fits beside three of a chain, which have as many

// kHalves: 1 where at most 8 heads share keys, which leaves rows 8 to 15 of the matrix instruction empty, else 2.
template <int D, int kHalves>
struct Shared {
  static constexpr int kBlockBytes = kBlock * D * 2, kKeys = 0, kValues = kBlockBytes;
  static constexpr int kQ = 2 * kBlockBytes, kScores = kQ + 8 * kHalves * D * 2;
  // Merging begins when all of that is done with.
  static constexpr int kTotal =
      std::max(kScores + kHalves * kThreads * 16, kWarps* static_cast<int>(sizeof(MergeStage)));
};

struct Common {
  Deal deal;
  int physical[kListed];  // the cache's blocks of the share
  std::uint64_t keys, values;
  MergeWork<kBlocksEach * kMostMultiprocessors> merge[2];
};

// What a warp knows of a block, a piece or a row: its own quarter of the columns.
template <int kTiles, int kHalves>
struct Quarter {
  float m[kHalves], l[kHalves], o[kTiles][2 * kHalves];
};

template <int D, int kHalves>
class ShortBlock {
 public:
  __device__ ShortBlock(const AttentionDecodeArgs& args, const DealSizes& sizes, const CUtensorMap* k,
                        const CUtensorMap* v, Common& common, unsigned char* shared)
      : args_(args), a_(args.attention), sizes_(sizes), k_(k), v_(v), c_(common), at_(shared_address(shared)) {
    scores_ = reinterpret_cast<float4*>(shared + S::kScores);
    count_ = c_.deal.end - c_.deal.begin;
  }

  // By one thread, before anything else.
  __device__ void fetch(int j) {
    fetch_keys(j);
    fetch_values(j);
  }
  // Weights, which no kernel writes: before the wait.
  __device__ void load_weights() {
    norm_ = load_head<D>(warp_ == kOwn ? args_.heads.k_norm : args_.heads.q_norm, sub_);
  }

  __device__ void run() {
#pragma unroll 1
    for (int j = 0; j < count_; ++j) {
      const int g = c_.deal.begin + j;
      const bool new_item = j == 0 || !item_.has(g);
      if (new_item) item_ = DealtItem(a_, c_.deal, sizes_, g);
      block_ = item_.first_block + g - item_.begin;
      prepare(j, new_item);
      float s[kBlock / 8][4];
      scores(s);
      __syncthreads();  // everybody's scores are there, and the keys are done with
      if (threadIdx.x == 0) fetch_keys(j + 1);
      gather_scores(s);
      attend(s);
      hand_on(j, g);
      __syncthreads();  // the values are done with
      if (threadIdx.x == 0) fetch_values(j + 1);
    }
  }

 private:
  using S = Shared<D, kHalves>;
  static constexpr int kLanes = kHeadLanes<D>, kTogether = 32 / kLanes;  // heads that a warp does at once
  static constexpr int kOwn = kWarps - 1;  // the warp that has this step's keys and values
  static constexpr int kTiles = D / 8 / kWarps, kColumns = D / kWarps;
  using Part = Quarter<kTiles, kHalves>;

  __device__ int physical(int j) const {
    if (j < kListed) return c_.physical[j];
    const DealtItem item(a_, c_.deal, sizes_, c_.deal.begin + j);
    return block_id(a_, c_.deal, item, c_.deal.begin + j);
  }

 public:
  static __device__ int block_id(const AttentionArgs& a, const Deal& deal, const DealtItem& item, int g) {
    return a.block_tables[static_cast<std::int64_t>(deal.seqs[item.row]) * a.max_blocks_per_seq + item.first_block + g -
                          item.begin];
  }

 private:
  __device__ void bring(int j, const CUtensorMap* map, int to, std::uint64_t* bar) const {
    if (j >= count_) return;
    const DealtItem item(a_, c_.deal, sizes_, c_.deal.begin + j);
    const int row = (physical(j) * a_.num_kv_heads + item.kv_head) * kBlock;
    barrier_expect(bar, S::kBlockBytes);
#pragma unroll
    for (int half = 0; half < D / 64; ++half) copy_read_once(at_ + to + half * kBlock * 128, map, half * 64, row, bar);
  }
  __device__ void fetch_keys(int j) const { bring(j, k_, S::kKeys, &c_.keys); }
  __device__ void fetch_values(int j) const { bring(j, v_, S::kValues, &c_.values); }

  __device__ HalvesOfHead raw(int row, int head) const { return head_of_step<D>(args_, row, head, sub_); }
  __device__ HalvesOfHead angles(int row) const { return angles_of_step<D>(args_, row, sub_); }

  // Queries to shared memory, and into the block of the cache what this step adds to it.
  __device__ void prepare(int j, bool new_item) {
    const int id = physical(j), first = block_ * kBlock, end = c_.deal.ends[item_.row];
    if (warp_ != kOwn) {
      if (new_item) load_queries();
      barrier_wait(&c_.keys, j & 1);
      barrier_wait(&c_.values, j & 1);
    } else {
      patch(j, id, first, end);
    }
    // A slot that was never written must not meet a probability of zero.
    const int limit = min(kBlock, end - first);
#pragma unroll 1
    for (int i = threadIdx.x; i < (kBlock - limit) * (D / 8); i += kThreads)
      store_shared(at_ + S::kValues + InHalves<D>::at(limit + i / (D / 8), i % (D / 8)), {0, 0, 0, 0});
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
  }
  __device__ void load_queries() const {
    constexpr int kPasses = 8 * kHalves / kTogether;
    const int first = item_.first_head(sizes_), last = item_.heads(sizes_) - 1;
    const HalvesOfHead turn = angles(item_.row);
#pragma unroll 1
    for (int i = warp_; i < kPasses && i * kTogether <= last; i += kWarps - 1) {
      const int head = i * kTogether + group_;
      const HalvesOfHead q =
          norm_and_rotate<D>(raw(item_.row, first + min(head, last)), norm_, turn, args_.heads.epsilon);
      store_shared(at_ + S::kQ + row_chunk<D>(head, sub_), q.lo);
      store_shared(at_ + S::kQ + row_chunk<D>(head, sub_ + kLanes), q.hi);
    }
  }
  // By one warp: keys and values of this step's rows that lie in the block; the first thread block that has a row's last
  // position writes them to the cache.
  __device__ void patch(int j, int id, int first, int end) const {
    const int lane = threadIdx.x % 32, kv = item_.kv_head;
    const bool own = block_ == item_.first_block + item_.blocks - 1 && item_.part == 0;
    const int slot = lane < c_.deal.rows ? c_.deal.slots[lane] : -1;
    const bool hit = slot >= 0 && slot / kBlock == id;
    unsigned hits = __ballot_sync(~0u, hit);
    bool waited = false;
#pragma unroll 1
    for (; hits; hits &= hits - 1) {
      const int row = __ffs(static_cast<int>(hits)) - 1, to = c_.deal.slots[row];
      const HalvesOfHead value = raw(row, a_.num_heads + a_.num_kv_heads + kv);
      const HalvesOfHead key = norm_and_rotate<D>(raw(row, a_.num_heads + kv), norm_, angles(row), args_.heads.epsilon);
      if (!waited) barrier_wait(&c_.keys, j & 1), barrier_wait(&c_.values, j & 1);
      waited = true;
      if (group_ > 1) continue;
      const auto pick = [&](const uint4& k, const uint4& v) { return group_ ? v : k; };
      const HalvesOfHead v{pick(key.lo, value.lo), pick(key.hi, value.hi)};
      if (own && row == item_.row)
        store_head<D>(cache_row<D>(group_ ? args_.heads.v_cache : args_.heads.k_cache, to, kv, a_.num_kv_heads), sub_,
                      v);
      if (group_ && to % kBlock >= min(kBlock, end - first)) continue;  // not seen: stays zero
      const std::uint32_t block = at_ + (group_ ? S::kValues : S::kKeys);
      store_shared(block + InHalves<D>::at(to % kBlock, sub_), v.lo);
      store_shared(block + InHalves<D>::at(to % kBlock, sub_ + kLanes), v.hi);
    }
    if (!waited) barrier_wait(&c_.keys, j & 1), barrier_wait(&c_.values, j & 1);
  }

  // Of the warp's 16 keys, to shared memory; as block_scores.
  __device__ void scores(float (&s)[kBlock / 8][4]) const {
    const int lane = threadIdx.x % 32, matrix = lane / 8, in = lane % 8;
    const std::uint32_t q = at_ + S::kQ, k = at_ + S::kKeys;
    float two[2][4] = {};
    const auto keys = [&](int step, std::uint32_t(&y)[4]) {
      ldmatrix_x4(y, k + InHalves<D>::at((2 * warp_ + matrix / 2) * 8 + in, step * 2 + (matrix & 1)));
    };
    const auto multiply = [&](const std::uint32_t(&x)[4], int step) {
      std::uint32_t y[4];
      keys(step, y);
      mma_16816(two[0], x, y[0], y[1]);
      mma_16816(two[1], x, y[2], y[3]);
    };
#pragma unroll
    for (int pair = 0; pair < D / 32; ++pair) {
      if constexpr (kHalves == 1) {  // of eight rows of queries one instruction brings two steps
        std::uint32_t x[4];
        ldmatrix_x4(x, q + row_chunk<D>(in, pair * 4 + matrix));
        multiply({x[0], 0, x[1], 0}, 2 * pair);
        multiply({x[2], 0, x[3], 0}, 2 * pair + 1);
      } else {
#pragma unroll
        for (int step = 2 * pair; step < 2 * pair + 2; ++step) {
          std::uint32_t x[4];
          ldmatrix_x4(x, q + row_chunk<D>((matrix & 1) * 8 + in, step * 2 + matrix / 2));
          multiply(x, step);
        }
      }
    }
#pragma unroll
    for (int h = 0; h < kHalves; ++h)
      scores_[h * kThreads + threadIdx.x] = {two[0][2 * h], two[0][2 * h + 1], two[1][2 * h], two[1][2 * h + 1]};
  }
  __device__ void gather_scores(float (&s)[kBlock / 8][4]) const {
#pragma unroll
    for (int w = 0; w < kWarps; ++w)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float4 v = h < kHalves ? scores_[h * kThreads + w * 32 + threadIdx.x % 32] : float4{0, 0, 0, 0};
        s[2 * w][2 * h] = v.x, s[2 * w][2 * h + 1] = v.y, s[2 * w + 1][2 * h] = v.z, s[2 * w + 1][2 * h + 1] = v.w;
      }
  }

  __device__ void attend(float (&s)[kBlock / 8][4]) {
    const int first = block_ * kBlock, end = c_.deal.ends[item_.row], begin = Deal::first_seen(a_, end);
    const Span spans[2] = {{begin, end}, {begin, end}};
    float m[2], l[2], o[kTiles][4];
    if (begin > first || end < first + kBlock) mask_block<kHalves>(s, first, spans);
    whole_block_softmax<kHalves>(s, a_.scale * kLog2E, m, l);
    block_values_of<D, InHalves<D>>(s, at_ + S::kValues, warp_ * kTiles, o);
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      part_.m[h] = m[h], part_.l[h] = l[h];
#pragma unroll
      for (int i = 0; i < kTiles; ++i) part_.o[i][2 * h] = o[i][2 * h], part_.o[i][2 * h + 1] = o[i][2 * h + 1];
    }
  }

  // The block into its piece; what is complete, or ends here, goes on.
  __device__ void hand_on(int j, int g) {
    const int piece = item_.piece_of(g), begin = item_.piece_begin(piece), end = item_.piece_end(piece);
    const bool whole = item_.begin >= c_.deal.begin && item_.begin + item_.blocks <= c_.deal.end;
    const bool single = begin < c_.deal.begin;  // the piece began in another share
    add(piece_, single || g == begin);
    if (!single && g + 1 < end && g + 1 < c_.deal.end) {
      piece_ = part_;
    } else if (!whole) {
      leave(single ? sizes_.most_pieces + static_cast<int>(blockIdx.x) * kSinglesPerShare + j
                   : item_.first_piece(c_.deal) + piece);
    } else {
      add(row_, piece == 0);
      if (end == item_.begin + item_.blocks)
        write();
      else
        row_ = part_;
    }
  }
  // part_ = `before`, or nothing if `first`, and part_.
  __device__ void add(const Part& before, bool first) {
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const Merge by(first ? -INFINITY : before.m[h], part_.m[h]);
      part_.m[h] = by.m, part_.l[h] = by(first ? 0 : before.l[h], part_.l[h]);
#pragma unroll
      for (int i = 0; i < kTiles; ++i)
#pragma unroll
        for (int e = 2 * h; e < 2 * h + 2; ++e) part_.o[i][e] = by(first ? 0 : before.o[i][e], part_.o[i][e]);
    }
  }
  __device__ void leave(int slot) const {
    float* to = args_.slots + static_cast<std::int64_t>(slot) * sizes_.slot_floats;
    const int lane = threadIdx.x % 32, part = lane % 4, column = warp_ * kColumns;
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const int head = lane / 4 + h * 8;
      if (head >= item_.heads(sizes_)) continue;
      float* slice = to + (head * (D / kSlice) + column / kSlice) * kSliceFloats;
#pragma unroll
      for (int i = 0; i < kTiles; ++i)
        store_relaxed(slice + column % kSlice + i * 8 + part * 2, both(part_.o[i][2 * h], part_.o[i][2 * h + 1]));
      if (part == 0 && column % kSlice == 0) store_relaxed(slice + kSlice, both(part_.m[h], part_.l[h]));
    }
  }
  __device__ void write() const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
      const int head = lane / 4 + h * 8;
      if (head >= item_.heads(sizes_)) continue;
      bf16* y = static_cast<bf16*>(a_.y) +
                (static_cast<std::int64_t>(item_.row) * a_.num_heads + item_.first_head(sizes_) + head) * D +
                warp_ * kColumns;
      const Divisor by(part_.l[h]);
      bool right = true;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const float lo = part_.o[i][2 * h], hi = part_.o[i][2 * h + 1];
        right = right && by.right_for(lo) && by.right_for(hi);
        *reinterpret_cast<std::uint32_t*>(y + i * 8 + lane % 4 * 2) = pack_bf16(by.quotient(lo), by.quotient(hi));
      }
      if (right) continue;
#pragma unroll
      for (int i = 0; i < kTiles; ++i)
        *reinterpret_cast<std::uint32_t*>(y + i * 8 + lane % 4 * 2) =
            pack_bf16(part_.o[i][2 * h] / part_.l[h], part_.o[i][2 * h + 1] / part_.l[h]);
    }
  }

  const AttentionDecodeArgs& args_;
  const AttentionArgs& a_;
  const DealSizes& sizes_;
  const CUtensorMap *k_, *v_;
  Common& c_;
  std::uint32_t at_;  // of shared memory
  float4* scores_;
  int count_, block_ = 0, warp_ = threadIdx.x / 32;
  int sub_ = threadIdx.x % kHeadLanes<D>, group_ = threadIdx.x % 32 / kHeadLanes<D>;
  DealtItem item_;
  HalvesOfHead norm_;
  Part part_, piece_, row_;
};

template <int D, int kHalves>
__global__ void __maxnreg__(kMostRegisters)
    attention_short_kernel(const __grid_constant__ AttentionDecodeArgs args, const __grid_constant__ DealSizes sizes,
                           const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v) {
  extern __shared__ unsigned char dynamic[];
  const std::uint32_t start = shared_address(dynamic);
  unsigned char* shared = dynamic + ((start + 1023) / 1024 * 1024 - start);
  __shared__ Common common;
  let_next_begin();
  if (threadIdx.x == 32)
    asm volatile("prefetch.tensormap [%0];\nprefetch.tensormap [%1];" ::"l"(&k), "l"(&v) : "memory");
  if (threadIdx.x == 64) barrier_init(&common.keys, 1), barrier_init(&common.values, 1);
  barrier_fence_init();
  const Deal& deal = common.deal;
  if (threadIdx.x < 32) common.deal.make(args, sizes);
  __syncthreads();
  const int begin = deal.begin, count = deal.end - begin;
  if (count == 0 && blockIdx.x > 0) return;  // one has to wait, so that the next kernel finds all before it done
  using Block = ShortBlock<D, kHalves>;
  if (threadIdx.x < min(kListed, count)) {
    const DealtItem item(args.attention, deal, sizes, begin + static_cast<int>(threadIdx.x));
    common.physical[threadIdx.x] = Block::block_id(args.attention, deal, item, begin + static_cast<int>(threadIdx.x));
  }
  __syncthreads();
  Block block(args, sizes, &k, &v, common, shared);
  if (threadIdx.x == 0) block.fetch(0);
  block.load_weights();
  const int number = static_cast<int>(threadIdx.x) / 32 - 1;
  if (number == 0 || number == 1) {
    if (threadIdx.x % 32 == 0) common.merge[number].count = 0;
    __syncwarp();
    const bool same = count == 0 || DealtItem(args.attention, deal, sizes, begin).has(deal.end - 1);
    if (count > 0 && (number == 0 || !same))
      common.merge[number].find(args.attention, sizes, deal, number == 0 ? begin : deal.end - 1);
  }
  wait_for_previous();
  block.run();
  __syncthreads();
  auto& stage = reinterpret_cast<MergeStage*>(shared)[threadIdx.x / 32];
#pragma unroll 1
  for (int i = 0; i < 2; ++i) common.merge[i].run(args.attention, args.slots, stage);
}

template <int D, int kHalves>
constexpr int kDynamicBytes = Shared<D, kHalves>::kTotal + 1024;

template <int D, int kHalves>
bool launch(const AttentionDecodeArgs& args, const DealSizes& sizes, cudaStream_t stream) {
  CUtensorMap k, v;
  if (!make_cache_maps<D>(args.attention, k, v)) return false;
  const auto kernel = attention_short_kernel<D, kHalves>;
  constexpr int kBytes = kDynamicBytes<D, kHalves>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  // As chain has it, beside which this kernel is to begin.
  cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  launch_kernel(kernel, most_short_blocks() / kBlocksEach, kThreads, kBytes, stream, args, sizes, k, v);
  return true;
}

}  // namespace

int most_short_blocks() { return kBlocksEach * std::min(multiprocessors(), kMostMultiprocessors); }
int attention_units(const AttentionShape& shape) { return DealSizes(shape).units; }

std::int32_t attention_short_shared_bytes(const AttentionShape& shape) {
  const bool few = DealSizes(shape).heads <= 8, d64 = shape.head_dim == 64;
  constexpr int kReserved = 1024 + 256;  // beside each block's own, and what is lost to rounding
  const int dynamic =
      d64 ? (few ? kDynamicBytes<64, 1> : kDynamicBytes<64, 2>) : (few ? kDynamicBytes<128, 1> : kDynamicBytes<128, 2>);
  return dynamic + static_cast<int>(sizeof(Common)) + kReserved;
}

void attention_short(const AttentionDecodeArgs& args, cudaStream_t stream) {
  const AttentionArgs& a = args.attention;
  const DealSizes sizes(
      {a.element, a.rows.most, a.num_heads, a.num_kv_heads, a.head_dim, a.block_size, a.max_blocks_per_seq});
  const bool few = sizes.heads <= 8, d64 = a.head_dim == 64;
  const auto kernel = d64 ? (few ? launch<64, 1> : launch<64, 2>) : (few ? launch<128, 1> : launch<128, 2>);
  if (!kernel(args, sizes, stream)) attention_decode(args, stream);
}

}  // namespace cajal::cuda
