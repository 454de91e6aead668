#pragma once
// Probabilities times values. A Dot says how many positions a step takes (kPositions) and how: rounded() gives probabilities as
// they are weighed with; keep() turns those of a piece, and the factor of what was there before, into what weight() reads; values() are of N vectors of columns, or of
// the first `lanes` of one; add() is the step. Dots take that from OnePosition or TwoPositions, or have their own. Included
// as attention_tile.h is.
#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/attention_order.h"
#include "backends/cpu/kernels/elementwise_scalar.h"

namespace cajal::cpu::flash {

template <class V>
struct OnePosition {
  using F = typename V::F;
  using Weight = F;
  using Values = F;
  static constexpr int kPositions = 1;

  static F rounded(F p) { return p; }
  static void keep(float*, float&) {}
  static F weight(const float* p, std::int64_t j) { return V::set1(p[j]); }
  template <class Raw, int N>
  static void values(const Raw* const (&rows)[1], std::int64_t lanes, F (&v)[N]) {
    CAJAL_UNROLL for (int n = 0; n < N; ++n) v[n] = N == 1 ? V::load(rows[0], lanes) : V::load(rows[0] + n * V::kLanes);
  }
  static F add(F weight, F values, F sum) { return V::fma(weight, values, sum); }
};

// Between begin() and end() denormals are taken and left as zeros, as bf16 instructions do. (A template so that
// each instruction set has its own.)
template <class V>
struct Flushing {
  static constexpr unsigned kFlush = _MM_FLUSH_ZERO_ON | 0x40;
  static void begin() {
    _mm_setcsr(_mm_getcsr() | kFlush);
    asm volatile("" ::: "memory");  // no load of what is multiplied moves before it
  }
  static void end() {
    asm volatile("" ::: "memory");
    _mm_setcsr(_mm_getcsr() & ~kFlush);
  }
};

// Pairs of positions as vdpbf16ps takes them, in f32.
template <class V>
struct TwoPositions : Flushing<V> {
  using F = typename V::F;
  struct Pair {
    F even, odd;
  };
  using Weight = Pair;
  using Values = Pair;
  static constexpr int kPositions = 2;

  static F rounded(F p) { return V::round(Bf16{}, V::zero_below(V::set1(std::numeric_limits<float>::min()), p)); }
  static void keep(float*, float& again) { again = flushed(again); }
  static Pair weight(const float* p, std::int64_t j) { return {V::set1(p[j]), V::set1(p[j + 1])}; }
  template <int N>
  static void values(const std::uint16_t* const (&rows)[2], std::int64_t lanes, Pair (&v)[N]) {
    CAJAL_UNROLL for (int n = 0; n < N; ++n) {
      if constexpr (N == 1)
        v[n] = {V::load(rows[0], lanes), V::load(rows[1], lanes)};
      else
        v[n] = {V::load(rows[0] + n * V::kLanes), V::load(rows[1] + n * V::kLanes)};
    }
  }
  static F add(const Pair& weight, const Pair& values, F sum) {
    return V::fma(weight.even, values.even, V::fma(weight.odd, values.odd, sum));
  }
};

// o[i] = o[i] * again[i] + p[i] v over the positions of `span`, for M vectors from `first` on and N vectors of columns
// from d on, `lanes` wide in all if that is less. Then again[i] must be 1.
template <class V, class Dot, int M, int N>
inline void weigh(const Block<typename Dot::Raw>& block, Vectors<typename Dot::Raw>& x, int first, Span span,
                  std::int64_t d, std::int64_t lanes) {
  using F = typename V::F;
  using Raw = typename Dot::Raw;
  constexpr int step = Dot::kPositions;
  static_assert(kPiece % step == 0, "a step lies in one piece");
  F sum[M][N];
  float* o = x.o + first * x.stride + d;
  CAJAL_UNROLL for (int i = 0; i < M; ++i) {
    CAJAL_UNROLL for (int n = 0; n < N; ++n) sum[i][n] =
        V::mul(V::load(o + i * x.stride + n * V::kLanes), V::set1(x.again[first + i]));
  }
  const std::int64_t begin = span.begin / step * step;
  const Raw* v = block.v + begin * block.head_dim + d;
  const Raw* ahead = block.next_k + (v - block.v);
  for (std::int64_t j = begin; j < span.end; j += step, v += step * block.head_dim) {
    if constexpr (kFetches<Dot, M>) {
      CAJAL_UNROLL for (int k = 0; k < step; ++k, ahead += block.head_dim) fetch<N * V::kLanes>(ahead);
    }
    const Raw* rows[step];
    rows_of_step(v, j, span, block.head_dim, rows);
    typename Dot::Values values[N];
    Dot::values(rows, lanes, values);
    CAJAL_UNROLL for (int i = 0; i < M; ++i) {
      const auto weight = Dot::weight(x.p[first + i], j);
      CAJAL_UNROLL for (int n = 0; n < N; ++n) sum[i][n] = Dot::add(weight, values[n], sum[i][n]);
    }
  }
  CAJAL_UNROLL for (int i = 0; i < M; ++i) {
    CAJAL_UNROLL for (int n = 0; n < N; ++n) V::store(o + i * x.stride + n * V::kLanes, sum[i][n]);
  }
}

template <class V, class Dot, int M>
inline void weigh_all(const Block<typename Dot::Raw>& block, Vectors<typename Dot::Raw>& x, int first, Span span) {
  constexpr std::int64_t width = Dot::kVectors * V::kLanes;
  static_assert(Dot::kPositions == 1 || width <= static_cast<std::int64_t>(std::size(kNoValues)));
  std::int64_t d = 0;
  for (; d + width <= block.head_dim; d += width) weigh<V, Dot, M, Dot::kVectors>(block, x, first, span, d, width);
  for (; d < block.head_dim; d += V::kLanes)
    weigh<V, Dot, M, 1>(block, x, first, span, d, std::min(V::kLanes, block.head_dim - d));
  CAJAL_UNROLL for (int i = 0; i < M; ++i) x.again[first + i] = 1.0f;
}

// The positions that M vectors can weigh together: those that all see, in whole steps unless all see the same part of one.
template <class Dot, int M>
inline Span seen_by_all(const Vectors<typename Dot::Raw>& x) {
  constexpr int step = Dot::kPositions;
  Span all = x.seen[0];
  bool begin_together = true, end_together = true;
  for (int i = 1; i < M; ++i) {
    begin_together &= x.seen[i].begin == x.seen[0].begin;
    end_together &= x.seen[i].end == x.seen[0].end;
    all = overlap(all, x.seen[i]);
  }
  if (!begin_together) all.begin = (all.begin + step - 1) / step * step;
  if (!end_together) all.end = all.end / step * step;
  return all.empty() ? Span{kPiece, kPiece} : all;
}

// Values that a vector does not see must not even be multiplied by zero: they may be infinite or NaN. Most vectors see what
// all do: asked here, for a call costs as much as a few positions.
template <class V, class Dot, int M>
inline void weigh_seen(const Block<typename Dot::Raw>& block, Vectors<typename Dot::Raw>& x) {
  const Span all = seen_by_all<Dot, M>(x);
  for (int i = 0; i < M; ++i)
    if (x.seen[i].begin < all.begin)
      weigh_all<V, Dot, 1>(block, x, i, {x.seen[i].begin, std::min(all.begin, x.seen[i].end)});
  if (!all.empty()) weigh_all<V, Dot, M>(block, x, 0, all);
  for (int i = 0; i < M; ++i)
    if (x.seen[i].end > all.end) weigh_all<V, Dot, 1>(block, x, i, {std::max(all.end, x.seen[i].begin), x.seen[i].end});
}

}  // namespace cajal::cpu::flash
