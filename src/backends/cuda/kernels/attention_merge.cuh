#pragma once
// The end of attention_decode and attention_short: items that several thread
// blocks have a part of. Partial results lie in slots, in which data is its own flag: all ones, which
// no result is, until the data come, and again after it was read. Each of the
// item's last blocks takes some columns, reads until nothing is missing, and
// merges in ascending order.
#include "backends/cuda/kernels/attention_deal.cuh"

namespace cajal::cuda {

constexpr int kPieceBegins = 1 << 30;  // beside a slot: its blocks are a piece's first
constexpr std::uint64_t kMissing = ~std::uint64_t{0};

__device__ inline std::uint64_t load_relaxed(const float* from) {
  std::uint64_t v;
  asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(v) : "l"(from));
  return v;
}
__device__ inline void store_relaxed(float* to, std::uint64_t v) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(v) : "memory");
}
__device__ inline std::uint64_t both(float x, float y) {
  return __float_as_uint(x) | static_cast<std::uint64_t>(__float_as_uint(y)) << 32;
}
__device__ inline float2 two(std::uint64_t v) {
  return {__uint_as_float(static_cast<std::uint32_t>(v)), __uint_as_float(static_cast<std::uint32_t>(v >> 32))};
}

// Of a warp: 32 partial results at a time.
struct MergeStage {
  struct Factors {
    float own, others, l;
    int begins;
  };
  struct Total {
    float own, others;
    int ends, unused;
  };
  float o[32][kSlice];
  Factors in_piece[32];
  Total in_row[32];
};

// Where the slots of an item begin, in ascending order, by one warp; how many.
__device__ inline int list_slots(const DealSizes& sizes, const Deal& deal, const DealtItem& item, int* list) {
  const int lane = threadIdx.x % 32, pieces = item.pieces(), first_slot = item.first_piece(deal);
  int before = 0;
#pragma unroll 1
  for (int base = 0; base < pieces; base += 32) {
    const int p = base + lane;
    const int begin = p < pieces ? item.piece_begin(p) : 0, end = p < pieces ? item.piece_end(p) : 0;
    const int cut = deal.share_begin(deal.share_of(begin) + 1);  // where the first share begins that does so inside
    const int own = p < pieces ? 1 + max(0, end - cut) : 0;
    int sum = own;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(~0u, sum, step);
      if (lane >= step) sum += other;
    }
    int* to = list + before + sum - own;
    if (own > 0) *to++ = (first_slot + p) * sizes.slot_floats | kPieceBegins;
#pragma unroll 1
    for (int g = cut; g < end; ++g) {
      const int share = deal.share_of(g);
      *to++ = (sizes.most_pieces + share * kSinglesPerShare + g - deal.share_begin(share)) * sizes.slot_floats;
    }
    before += __shfl_sync(~0u, sum, 31);
  }
  return before;
}

// A warp merges kSlice columns of one head: `slices` is where they lie in slot
// 0; a lane has the result's column `lane`.
class SliceMerge {
 public:
  __device__ SliceMerge(const int* list, int count, float* slices, MergeStage& stage)
      : list_(list), count_(count), slices_(slices), stage_(stage) {}

  __device__ float run() {
    float piece_o = 0, piece_l = 0, o = 0, l = 0;
    ask(0);
#pragma unroll 1
    for (int base = 0; base < count_; base += 32) {
      const float2 ml = take(base);
      ask(base + 32);
      factors(base, ml);
      __syncwarp();
#pragma unroll 1
      for (int first = 0; first < min(32, count_ - base); first += kAtOnce)
#pragma unroll
        for (int e = first; e < first + kAtOnce; ++e) {  // those beyond the last end nothing
          const MergeStage::Factors f = stage_.in_piece[e];
          const MergeStage::Total t = stage_.in_row[e];
          piece_o = fmaf(stage_.o[e][lane_], f.others, f.begins ? 0.0f : piece_o * f.own);
          piece_l = fmaf(f.l, f.others, f.begins ? 0.0f : piece_l * f.own);
          const float next_o = fmaf(piece_o, t.others, o * t.own), next_l = fmaf(piece_l, t.others, l * t.own);
          o = t.ends ? next_o : o, l = t.ends ? next_l : l;
        }
      __syncwarp();
    }
    return o / l;
  }

 private:
  static constexpr int kAtOnce = 8;

  // The 32 results from `base` on, of which half a warp reads one; m and l of
  // the lane's own. Those beyond the last are the last once more, and are not
  // looked at.
  __device__ void ask(int base) {
    const int half = lane_ / 16, last = count_ - 1;
    if (base > last) return;
#pragma unroll
    for (int i = 0; i < 16; ++i) at_[i] = (list_[min(base + 2 * i + half, last)] & ~kPieceBegins) + lane_ % 16 * 2;
    own_at_ = (list_[min(base + lane_, last)] & ~kPieceBegins) + kSlice;
    load();
  }
  __device__ void load() {
#pragma unroll
    for (int i = 0; i < 16; ++i) v_[i] = load_relaxed(slices_ + at_[i]);
    ml_ = load_relaxed(slices_ + own_at_);
  }
  // Waits until they are there, and puts them where the warp sees them.
  __device__ float2 take(int base) {
    const int half = lane_ / 16, rest = count_ - base - half;
    const bool own = base + lane_ < count_;
    for (int rounds = 0;; ++rounds) {
      bool missing = own && ml_ == kMissing;
#pragma unroll
      for (int i = 0; i < 16; ++i) missing = missing || (2 * i < rest && v_[i] == kMissing);
      if (!__any_sync(~0u, missing)) break;
      if (rounds > 20'000'000) __trap();  // what was to come will not
      __nanosleep(20);
      load();
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      if (2 * i >= rest) break;
      store_relaxed(slices_ + at_[i], kMissing);
      *reinterpret_cast<float2*>(&stage_.o[2 * i + half][lane_ % 16 * 2]) = two(v_[i]);
    }
    if (own) store_relaxed(slices_ + own_at_, kMissing);
    return own ? two(ml_) : float2{-INFINITY, 0};
  }

  // What Merge makes of each result and what was before it, known for 32 of
  // them together: a maximum is free of order.
  __device__ void factors(int base, float2 ml) {
    const int own = base + lane_;
    const float m = ml.x;
    const bool begins = own < count_ && (list_[own] & kPieceBegins);
    const bool ends = own < count_ && (own + 1 == count_ || (list_[own + 1] & kPieceBegins));
    const unsigned beginnings = __ballot_sync(~0u, begins);
    const int first =
        31 - __clz(static_cast<int>(beginnings & (~0u >> (31 - lane_))));  // of the piece; -1: before these
    float before = first < 0 ? piece_m_ : -INFINITY, seen = m;
#pragma unroll
    for (int step = 1; step < kBlocksPerPiece; ++step) {
      const float other = __shfl_up_sync(~0u, m, step);
      if (lane_ - step >= max(first, 0)) before = fmaxf(before, other);
    }
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const float other = __shfl_up_sync(~0u, seen, step);
      if (lane_ >= step) seen = fmaxf(seen, other);
    }
    seen = fmaxf(seen, row_m_);
    const float until = __shfl_sync(~0u, seen, max(first - 1, 0));
    const float row_before = first > 0 ? until : first == 0 ? row_m_ : row_before_piece_;
    const float after = fmaxf(before, m);
    stage_.in_piece[lane_] = {exp2_fast(before - after), exp2_fast(m - after), ml.y, begins};
    stage_.in_row[lane_] = {exp2_fast(row_before - seen), exp2_fast(after - seen), ends, 0};
    piece_m_ = __shfl_sync(~0u, after, 31), row_m_ = __shfl_sync(~0u, seen, 31);
    row_before_piece_ = __shfl_sync(~0u, row_before, 31);
  }

  const int* list_;
  int count_;
  float* slices_;
  MergeStage& stage_;
  int lane_ = threadIdx.x % 32;
  int at_[16], own_at_;  // of what was asked for
  std::uint64_t v_[16], ml_;
  float piece_m_ = -INFINITY, row_m_ = -INFINITY, row_before_piece_ = -INFINITY;
};

constexpr int kMergeWarps = 4;

// What a block has to merge of the first or the last item of its share, if
// others have a part of that; known early.
template <int kMostSlots>
struct MergeWork {
  int count, slices, begin,
      step;  // count: of slots; from which slice on, and every which
  std::int64_t y;
  int list[kMostSlots];

  // By one warp. `g` is the item's block in the share.
  __device__ void find(const AttentionArgs& a, const DealSizes& sizes, const Deal& deal, int g) {
    const DealtItem item(a, deal, sizes, g);
    const int last_share = deal.share_of(item.begin + item.blocks - 1),
              shares = last_share - deal.share_of(item.begin) + 1;
    const int all = item.heads(sizes) * (a.head_dim / kSlice);
    const int helpers = min(shares, all), helper = last_share - static_cast<int>(blockIdx.x);
    if (deal.whole || shares == 1 || helper >= helpers) return;
    const int slots = list_slots(sizes, deal, item, list);
    if (threadIdx.x % 32 > 0) return;
    slices = all, begin = helper, step = helpers;
    y = (static_cast<std::int64_t>(item.row) * a.num_heads + item.first_head(sizes)) * a.head_dim;
    count = slots;
  }
  // By each of kMergeWarps warps.
  __device__ void run(const AttentionArgs& a, float* slots, MergeStage& stage) const {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (count == 0) return;
#pragma unroll 1
    for (int s = begin + step * warp; s < slices; s += step * kMergeWarps)
      static_cast<bf16*>(a.y)[y + s * kSlice + lane] =
          store<bf16>(SliceMerge(list, count, slots + s * kSliceFloats, stage).run());
  }
};

}  // namespace cajal::cuda
