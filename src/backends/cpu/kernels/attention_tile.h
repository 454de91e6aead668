#pragma once
// One tile against one chunk, on vectors of any width. V is V of elementwise_vec256.h or elementwise_vec512.h; Dot says how
// scores are made and how values are weighed (attention_weigh.h). Included *inside* the target region of the file that
// instantiates it, so it includes nothing but what that file has already included; no lambdas, which GCC compiles without the
// region's instruction set in a template.
#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/attention_kernels.h"
#include "backends/cpu/kernels/attention_order.h"
#include "backends/cpu/kernels/attention_weigh.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/kv_int8_vec.h"

namespace cajal::cpu::flash {

// p[i][j] = q[i] . k[j] for the first `seen` positions of the block, and perhaps some more: lanes are positions, N vectors of
// them at a time. Values are fetched in the order of their rows.
template <class V, class Dot, int M, int N>
inline void scores(const Block<typename Dot::Raw>& block, Vectors<typename Dot::Raw>& x, std::int64_t seen) {
  using F = typename V::F;
  for (std::int64_t j = 0; j < seen; j += N * V::kLanes) {
    F sum[M][N];
    CAJAL_UNROLL for (int i = 0; i < M; ++i) { CAJAL_UNROLL for (int n = 0; n < N; ++n) sum[i][n] = V::zero(); }
    const auto* k = block.k + j * Dot::kGroup;
    const auto* ahead = block.v + j * block.head_dim;
    for (std::int64_t d = 0; d < block.head_dim; d += Dot::kGroup, k += kPiece * Dot::kGroup) {
      if constexpr (kFetches<Dot, M>) {
        fetch<N * V::kLanes * Dot::kGroup>(ahead);
        ahead += N * V::kLanes * Dot::kGroup;
      }
      typename Dot::Keys keys[N];
      CAJAL_UNROLL for (int n = 0; n < N; ++n) keys[n] = Dot::keys(k + n * V::kLanes * Dot::kGroup);
      CAJAL_UNROLL for (int i = 0; i < M; ++i) {
        const auto query = Dot::query(x.q[i] + d);
        CAJAL_UNROLL for (int n = 0; n < N; ++n) sum[i][n] = Dot::step(query, keys[n], sum[i][n]);
      }
    }
    CAJAL_UNROLL for (int i = 0; i < M; ++i) {
      CAJAL_UNROLL for (int n = 0; n < N; ++n) V::store(x.p[i] + j + n * V::kLanes, sum[i][n]);
    }
  }
}

// The same for a cache in 8 bits, whose products are integers.
template <class V, class Dot, int M, int N>
inline void int8_scores(const Block<std::int8_t>& block, Vectors<std::int8_t>& x, std::int64_t seen) {
  constexpr std::int64_t kGroup = 4;
  for (std::int64_t j = 0; j < seen; j += N * V::kLanes) {
    typename Dot::Sum sum[M][N];
    CAJAL_UNROLL for (int i = 0; i < M; ++i) {
      CAJAL_UNROLL for (int n = 0; n < N; ++n) sum[i][n] = Dot::begin_sum(x.q_sum[i]);
    }
    const std::int8_t* k = block.k + j * kGroup;
    const std::int8_t* ahead = block.v + j * block.head_dim;
    for (std::int64_t d = 0; d < block.head_dim; d += kGroup, k += kPiece * kGroup) {
      if constexpr (kFetches<Dot, M>) {
        fetch<N * V::kLanes * kGroup>(ahead);
        ahead += N * V::kLanes * kGroup;
      }
      typename Dot::Keys keys[N];
      CAJAL_UNROLL for (int n = 0; n < N; ++n) keys[n] = Dot::keys(k + n * V::kLanes * kGroup);
      CAJAL_UNROLL for (int i = 0; i < M; ++i) {
        const auto query = Dot::query(x.q[i] + d);
        CAJAL_UNROLL for (int n = 0; n < N; ++n) sum[i][n] = Dot::step(query, keys[n], sum[i][n]);
      }
    }
    CAJAL_UNROLL for (int n = 0; n < N; ++n) {
      const auto k_scale = V::load(block.k_scales + j + n * V::kLanes);
      CAJAL_UNROLL for (int i = 0; i < M; ++i) {
        V::store(x.p[i] + j + n * V::kLanes, V::mul(Dot::to_float(sum[i][n]), V::mul(V::set1(x.q_scale[i]), k_scale)));
      }
    }
  }
}

// Probabilities of vector i, times the scales of the values that they weigh. Those of unseen positions may become anything.
template <class V>
inline void scale_probabilities(const Block<std::int8_t>& block, Vectors<std::int8_t>& x, int i) {
  for (std::int64_t j = 0; j < kPiece; j += V::kLanes)
    V::store(x.p[i] + j, V::mul(V::load(x.p[i] + j), V::load(block.v_scales + j)));
}

// Scores times scale, and the running maximum of vector i; again[i] is still to become its exponential.
template <class V, class Raw>
inline void maximum(Vectors<Raw>& x, int i, float scale) {
  using F = typename V::F;
  const std::uint64_t sees = x.seen_bits(i);
  const F lowest = V::set1(-__builtin_inff());
  F most = V::set1(x.m[i]);
  CAJAL_UNROLL for (int n = 0; n < kPiece / V::kLanes; ++n) {
    const F s = V::mul(V::load(x.p[i] + n * V::kLanes), V::set1(scale));
    most = V::max(most, V::select(sees >> n * V::kLanes, s, lowest));
    V::store(x.p[i] + n * V::kLanes, s);
  }
  const float m = V::max_of(most);
  x.again[i] = x.m[i] - m;
  x.m[i] = m;
}

// The probabilities of vector i, zero where it sees nothing, and their running sum.
template <class V, class Dot>
inline void probabilities(Vectors<typename Dot::Raw>& x, int i) {
  using F = typename V::F;
  constexpr int parts = kPiece / V::kLanes;
  const std::uint64_t sees = x.seen_bits(i);
  F s[parts];
  CAJAL_UNROLL for (int n = 0; n < parts; ++n) {
    const F score = V::load(x.p[i] + n * V::kLanes);
    s[n] = Dot::rounded(V::select(sees >> n * V::kLanes, V::exp(V::sub(score, V::set1(x.m[i]))), V::zero()));
    V::store(x.p[i] + n * V::kLanes, s[n]);
  }
  x.l[i] = x.l[i] * x.again[i] + V::sum_tree(s);
}

template <class V, class Dot, int M, int N>
inline void some_scores(const Block<typename Dot::Raw>& block, Vectors<typename Dot::Raw>& x, std::int64_t seen) {
  if constexpr (std::is_same_v<typename Dot::Raw, std::int8_t>)
    int8_scores<V, Dot, M, N>(block, x, seen);
  else
    scores<V, Dot, M, N>(block, x, seen);
}

// Scores of what any of the M vectors sees: of a block's end that is not filled yet, or that all of them see only the
// beginning of, the rest is left out.
template <class V, class Dot, int M>
inline void all_scores(const Block<typename Dot::Raw>& block, Vectors<typename Dot::Raw>& x) {
  std::int64_t seen = 0;
  for (int i = 0; i < M; ++i) seen = std::max(seen, x.seen[i].end);
  for (int i = 0; i < M; ++i) std::fill(x.p[i] + seen, x.p[i] + kPiece, 0.0f);
  if constexpr (Dot::kVectors == 4) {
    if (seen <= V::kLanes) return some_scores<V, Dot, M, 1>(block, x, seen);
    if (seen <= 2 * V::kLanes) return some_scores<V, Dot, M, 2>(block, x, seen);
  }
  some_scores<V, Dot, M, Dot::kVectors>(block, x, seen);
}

// M vectors against one block.
template <class V, class Dot, int M>
inline void meet(const Block<typename Dot::Raw>& block, Vectors<typename Dot::Raw>& x, float scale) {
  constexpr bool int8 = std::is_same_v<typename Dot::Raw, std::int8_t>;
  Dot::begin();
  all_scores<V, Dot, M>(block, x);
  Dot::end();
  for (int i = 0; i < M; ++i) maximum<V>(x, i, scale);
  V::store(x.again, V::exp(V::load(x.again, M)), M);  // all at once: one vector alone takes as long
  for (int i = 0; i < M; ++i) {
    probabilities<V, Dot>(x, i);
    if constexpr (int8) scale_probabilities<V>(block, x, i);
    Dot::keep(x.p[i], x.again[i]);
  }
  Dot::begin();
  weigh_seen<V, Dot, M>(block, x);
  Dot::end();
}

template <class V, class Dot>
inline void meet_some(const Block<typename Dot::Raw>& block, Vectors<typename Dot::Raw>& x, std::int64_t count,
                      float scale) {
  static_assert(Dot::kRows <= kMaxVectors);
  switch (count) {
    case 1: return meet<V, Dot, 1>(block, x, scale);
    case 2: return meet<V, Dot, 2>(block, x, scale);
    case 3: return meet<V, Dot, 3>(block, x, scale);
    case 4: return meet<V, Dot, 4>(block, x, scale);
    case 5: return meet<V, Dot, std::min(5, Dot::kRows)>(block, x, scale);
    default: return meet<V, Dot, std::min(6, Dot::kRows)>(block, x, scale);
  }
}

// The vectors of rows.begin..rows.end-1, all of which see something of the block, in groups as equal as can be.
template <class V, class Dot, class Queries>
inline void meet_rows(const AttentionArgs& a, const FlashTile& tile, const FlashState& state,
                      const Block<typename Dot::Raw>& block, Span rows, const Queries& queries) {
  Vectors<typename Dot::Raw> x;
  x.stride = state.stride;
  const std::int64_t end = rows.end * tile.group;
  std::int64_t groups = (end - rows.begin * tile.group + Dot::kRows - 1) / Dot::kRows;
  for (std::int64_t first = rows.begin * tile.group; first < end; --groups) {
    const std::int64_t count = (end - first + groups - 1) / groups;
    for (std::int64_t i = 0; i < count; ++i) {
      const Span seen = visible(tile.first_position + (first + i) / tile.group, a.sliding_window);
      queries.give(first + i, x, i);
      x.seen[i] = overlap({seen.begin - block.first_position, seen.end - block.first_position}, {0, kPiece});
    }
    x.m = state.m + first;
    x.l = state.l + first;
    x.o = state.o + first * state.stride;
    meet_some<V, Dot>(block, x, count, a.scale);
    first += count;
  }
}

// FlashParts::chunk, of queries and blocks that are given.
template <class V, class Dot, class Queries, class Blocks>
inline void chunk_of(const AttentionArgs& a, const FlashTile& tile, std::int64_t number, const FlashState& state,
                     const Queries& queries, const Blocks& blocks) {
  std::fill_n(state.m, tile.vectors(), -__builtin_inff());
  std::fill_n(state.l, tile.vectors(), 0.0f);
  std::fill_n(state.o, tile.vectors() * state.stride, 0.0f);
  const std::int64_t last = tile.first_position + tile.rows - 1;
  Span seen = {visible(tile.first_position, a.sliding_window).begin, last + 1};
  seen = overlap(seen, {number * kChunk, (number + 1) * kChunk});
  const std::int32_t* table = a.block_tables + a.seq_indices[tile.first_row] * a.max_blocks_per_seq;
  for (std::int64_t b = seen.begin / kPiece; b * kPiece < seen.end; ++b) {
    const bool more = (b + 1) * kPiece < seen.end;
    Block<typename Dot::Raw> block = blocks.block(table[b], table[more ? b + 1 : b], tile.kv_head);
    block.first_position = b * kPiece;
    Span rows{std::max<std::int64_t>(0, b * kPiece - tile.first_position), tile.rows};
    if (a.sliding_window > 0)
      rows.end = std::min(rows.end, (b + 1) * kPiece + a.sliding_window - 1 - tile.first_position);
    meet_rows<V, Dot>(a, tile, state, block, rows, queries);
  }
}

// FlashParts::chunk.
template <class V, class Dot>
inline void chunk(const AttentionArgs& a, const FlashTile& tile, std::int64_t number, const FlashState& state,
                  std::byte*) {
  using T = typename Dot::Type;
  chunk_of<V, Dot>(a, tile, number, state, StepQueries<T>{a, tile}, StepBlocks<T>{a});
}

// FlashParts::chunk over a cache in 8 bits.
template <class V, class Dot>
inline void int8_chunk(const AttentionArgs& a, const FlashTile& tile, std::int64_t number, const FlashState& state,
                       std::byte*) {
  using T = typename Dot::Type;
  RoundedQueries<T> queries;
  queries.head_dim = a.head_dim;
  for (std::int64_t i = 0; i < tile.vectors(); ++i) {
    const std::int64_t row = tile.first_row + i / tile.group, head = tile.first_head + i % tile.group;
    std::int8_t* integers = queries.integers + i * a.head_dim;
    queries.scale[i] = round_int8<V, T>(as<T>(a.q) + (row * a.num_heads + head) * a.head_dim, a.head_dim, integers);
    std::int32_t sum = 0;
    for (std::int64_t d = 0; d < a.head_dim; ++d) sum += integers[d];
    queries.sum[i] = sum;
  }
  chunk_of<V, Dot>(a, tile, number, state, queries, Int8Blocks{a});
}

// FlashParts::merge.
template <class V>
inline void merge(const FlashState& into, const FlashState& from, std::int64_t vectors) {
  using F = typename V::F;
  for (std::int64_t i = 0; i < vectors; ++i) {
    if (from.l[i] == 0) continue;
    float *o1 = into.o + i * into.stride, *o2 = from.o + i * from.stride;
    if (into.l[i] == 0) {
      into.m[i] = from.m[i];
      into.l[i] = from.l[i];
      std::copy_n(o2, into.stride, o1);
      continue;
    }
    const float m = V::first(V::max(V::set1(into.m[i]), V::set1(from.m[i])));
    const F a1 = V::exp(V::set1(into.m[i] - m)), a2 = V::exp(V::set1(from.m[i] - m));
    into.m[i] = m;
    into.l[i] = into.l[i] * V::first(a1) + from.l[i] * V::first(a2);
    for (std::int64_t d = 0; d < into.stride; d += V::kLanes)
      V::store(o1 + d, V::fma(V::load(o2 + d), a2, V::mul(V::load(o1 + d), a1)));
  }
}

// FlashParts::finish. kOneZero: no negative zeros come out, of which it depends on neighbours whether zeros are added to them.
template <class V, class T, bool kOneZero = false>
inline void finish(const AttentionArgs& a, const FlashTile& tile, const FlashState& state) {
  for (std::int64_t i = 0; i < tile.vectors(); ++i) {
    const std::int64_t row = tile.first_row + i / tile.group, head = tile.first_head + i % tile.group;
    auto* y = as<T>(a.y) + (row * a.num_heads + head) * a.head_dim;
    const auto inverse = V::set1(1.0f / state.l[i]);
    for (std::int64_t d = 0; d < a.head_dim; d += V::kLanes) {
      auto o = V::load(state.o + i * state.stride + d);
      if constexpr (kOneZero) o = V::add(o, V::zero());
      V::store(y + d, V::mul(o, inverse), std::min(V::kLanes, a.head_dim - d));
    }
  }
}

}  // namespace cajal::cpu::flash
