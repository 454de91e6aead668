#pragma once
// Attention a chunk at a time (the second order of attention_order.h): the softmax of a chunk, and a row's few vectors by AVX-512. More
// go by tiles, attention_chunk_tiles.h. V is that of elementwise_vec512_bf16.h. Included *inside* a target region, as attention_tile.h is.
#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/attention_kernels.h"
#include "backends/cpu/kernels/attention_order.h"
#include "backends/cpu/kernels/attention_weigh.h"
#include "backends/cpu/kernels/elementwise_scalar.h"

namespace cajal::cpu::flash {

constexpr std::int64_t kStep = 32;  // numbers that are summed from zero before they are added

// Bit i: position j + i is in the span.
inline std::uint64_t bits_of(Span span, std::int64_t j) {
  const std::int64_t lanes = 16;
  const auto first = std::clamp<std::int64_t>(span.begin - j, 0, lanes),
             end = std::clamp<std::int64_t>(span.end - j, 0, lanes);
  return (std::uint64_t{1} << end) - (std::uint64_t{1} << first);
}

// The positions of chunk number `number` that a row sees, from the chunk's first one.
inline Span seen_of_chunk(std::int64_t position, std::int64_t sliding_window, std::int64_t number) {
  const Span seen = visible(position, sliding_window);
  const Span of_chunk = overlap({seen.begin - number * kChunk, seen.end - number * kChunk}, {0, kChunk});
  return of_chunk.empty() ? Span{0, 0} : of_chunk;
}

// Whole pieces around a span.
inline Span pieces_around(Span span) {
  return {span.begin / kPiece * kPiece, (span.end + kPiece - 1) / kPiece * kPiece};
}

// Sets m and l to those of one vector, and puts its probabilities, bf16, kStep at a time, from its products with the keys of the
// positions `around`, of which it sees `seen`.
template <class V, class Put>
inline void softmax(const float* products, Span around, Span seen, float scale, float& m, float& l, const Put& put) {
  using F = typename V::F;
  const F lowest = V::set1(-__builtin_inff()), factor = V::set1(scale);
  F most = lowest;
  for (std::int64_t j = around.begin; j < around.end; j += V::kLanes)
    most = V::max(most, V::select(bits_of(seen, j), V::mul(V::load(products + j), factor), lowest));
  m = V::max_of(most);
  const F top = V::set1(m);
  F sums[kPiece / V::kLanes];
  CAJAL_UNROLL for (F& sum : sums) sum = V::zero();
  for (std::int64_t j = around.begin; j < around.end; j += kPiece) {
    CAJAL_UNROLL for (int n = 0; n < kPiece / kStep; ++n) {
      const std::int64_t at = j + n * kStep;
      F p[2];
      CAJAL_UNROLL for (int half = 0; half < 2; ++half) {
        const std::int64_t lane = at + half * V::kLanes;
        const F score = V::mul(V::load(products + lane), factor);
        p[half] = V::select(bits_of(seen, lane), V::exp(V::sub(score, top)), V::zero());
      }
      const __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh(p[1], p[0]);
      CAJAL_UNROLL for (int half = 0; half < 2; ++half) {
        p[half] =
            avx512::widen_bf16(half == 0 ? _mm512_castsi512_si256(rounded) : _mm512_extracti64x4_epi64(rounded, 1));
        sums[n * 2 + half] = V::add(sums[n * 2 + half], p[half]);
      }
      put(at, rounded, p);
    }
  }
  l = V::sum_tree(sums);
}

// Vectors of one row, which see the same.
constexpr int kFewVectors = 3;
struct FewVectors {
  std::int64_t head_dim;
  Span seen;                                        // of the chunk
  alignas(64) float q[kFewVectors][kMaxHeadDim];    // widened
  alignas(64) float products[kFewVectors][kChunk];  // with keys; then probabilities, widened
};

// Products of M vectors with all keys of a piece, [head_dim / 2][64][2]. Lanes are positions. `ahead` is fetched meanwhile.
template <class V, int M>
inline void few_products(FewVectors& x, std::int64_t piece, const std::uint16_t* k, const std::uint16_t* ahead) {
  using F = typename V::F;
  constexpr int kVectors = kPiece / V::kLanes;
  CAJAL_UNROLL for (int i = 0; i < M; ++i) {
    CAJAL_UNROLL for (int n = 0; n < kVectors; ++n) V::store(x.products[i] + piece + n * V::kLanes, V::zero());
  }
  for (std::int64_t first = 0; first < x.head_dim; first += kStep) {
    F even[M][kVectors], odd[M][kVectors];
    CAJAL_UNROLL for (int i = 0; i < M; ++i) {
      CAJAL_UNROLL for (int n = 0; n < kVectors; ++n) even[i][n] = odd[i][n] = V::zero();
    }
    const std::int64_t end = std::min(first + kStep, x.head_dim);
    for (std::int64_t d = first; d < end; d += 2, k += 2 * kPiece, ahead += 2 * kPiece) {
      fetch<2 * kPiece>(ahead);
      CAJAL_UNROLL for (int n = 0; n < kVectors; ++n) {
        const avx512::Bf16Pairs keys = avx512::widen_pairs(_mm512_loadu_si512(k + n * 2 * V::kLanes));
        CAJAL_UNROLL for (int i = 0; i < M; ++i) {
          even[i][n] = V::fma(V::set1(x.q[i][d]), keys.even, even[i][n]);
          odd[i][n] = V::fma(V::set1(x.q[i][d + 1]), keys.odd, odd[i][n]);
        }
      }
    }
    CAJAL_UNROLL for (int i = 0; i < M; ++i) {
      CAJAL_UNROLL for (int n = 0; n < kVectors; ++n) {
        float* const sum = x.products[i] + piece + n * V::kLanes;
        V::store(sum, V::add(V::load(sum), V::add(even[i][n], odd[i][n])));
      }
    }
  }
}

// o[i] += p[i] v for the positions of a step, N vectors of columns, `lanes` wide in all if that is less.
template <class V, int M, int N>
inline void few_values(const FewVectors& x, std::int64_t step, const std::uint16_t* v, const std::uint16_t* ahead,
                       float* o, std::int64_t stride, std::int64_t lanes) {
  using F = typename V::F;
  F even[M][N], odd[M][N];
  CAJAL_UNROLL for (int i = 0; i < M; ++i) {
    CAJAL_UNROLL for (int n = 0; n < N; ++n) even[i][n] = odd[i][n] = V::zero();
  }
  const Span seen = overlap(x.seen, {step, step + kStep});
  for (std::int64_t j = seen.begin / 2 * 2; j < seen.end; j += 2) {
    const std::int64_t at = (j - step) * x.head_dim;
    const std::uint16_t* rows[2];
    rows_of_step(v + at, j, seen, x.head_dim, rows);
    fetch<N * V::kLanes>(ahead + at);
    fetch<N * V::kLanes>(ahead + at + x.head_dim);
    CAJAL_UNROLL for (int n = 0; n < N; ++n) {
      const F even_values = N == 1 ? V::load(rows[0], lanes) : V::load(rows[0] + n * V::kLanes);
      const F odd_values = N == 1 ? V::load(rows[1], lanes) : V::load(rows[1] + n * V::kLanes);
      CAJAL_UNROLL for (int i = 0; i < M; ++i) {
        even[i][n] = V::fma(V::set1(x.products[i][j]), even_values, even[i][n]);
        odd[i][n] = V::fma(V::set1(x.products[i][j + 1]), odd_values, odd[i][n]);
      }
    }
  }
  CAJAL_UNROLL for (int i = 0; i < M; ++i) {
    CAJAL_UNROLL for (int n = 0; n < N; ++n) {
      float* const sum = o + i * stride + n * V::kLanes;
      V::store(sum, V::add(V::load(sum), V::add(even[i][n], odd[i][n])));
    }
  }
}

template <class V, int M>
inline void weigh_step(const FewVectors& x, std::int64_t step, const std::uint16_t* v, const std::uint16_t* ahead,
                       const FlashState& state) {
  constexpr int kVectors = 4;
  static_assert(kVectors * V::kLanes <= static_cast<std::int64_t>(std::size(kNoValues)));
  std::int64_t d = 0;
  for (; d + kVectors * V::kLanes <= x.head_dim; d += kVectors * V::kLanes)
    few_values<V, M, kVectors>(x, step, v + d, ahead + d, state.o + d, state.stride, kVectors * V::kLanes);
  for (; d < x.head_dim; d += V::kLanes)
    few_values<V, M, 1>(x, step, v + d, ahead + d, state.o + d, state.stride, std::min(V::kLanes, x.head_dim - d));
}

// A chunk's blocks of a kv head, by their first position in the chunk.
struct ChunkBlocks {
  StepBlocks<Bf16> blocks;
  const std::int32_t* table;  // of the chunk
  std::int64_t kv_head;
  const std::uint16_t* k(std::int64_t piece) const { return at(piece).k; }
  const std::uint16_t* v(std::int64_t piece) const { return at(piece).v; }

 private:
  Block<std::uint16_t> at(std::int64_t piece) const {
    const std::int32_t block = table[piece / kPiece];
    return blocks.block(block, block, kv_head);
  }
};

// What M vectors of a row make of a chunk.
template <class V, int M>
inline void few_meet(const ChunkBlocks& blocks, FewVectors& x, float scale, const FlashState& state) {
  const Span around = pieces_around(x.seen);
  Flushing<V>::begin();
  for (std::int64_t piece = around.begin; piece < around.end; piece += kPiece) {
    const bool more = piece + kPiece < around.end;
    few_products<V, M>(x, piece, blocks.k(piece), more ? blocks.k(piece + kPiece) : blocks.v(around.begin));
  }
  Flushing<V>::end();
  for (int i = 0; i < M; ++i) {
    struct {
      float* p;
      void operator()(std::int64_t at, __m512i, const __m512 (&halves)[2]) const {
        V::store(p + at, halves[0]);
        V::store(p + at + V::kLanes, halves[1]);
      }
    } const put{x.products[i]};
    softmax<V>(x.products[i], around, x.seen, scale, state.m[i], state.l[i], put);
  }
  Flushing<V>::begin();
  for (std::int64_t piece = around.begin; piece < around.end; piece += kPiece) {
    const std::uint16_t* const v = blocks.v(piece);
    const std::uint16_t* const ahead = piece + kPiece < around.end ? blocks.v(piece + kPiece) : v;
    for (std::int64_t step = 0; step < kPiece; step += kStep)
      weigh_step<V, M>(x, piece + step, v + step * x.head_dim, ahead + step * x.head_dim, state);
  }
  Flushing<V>::end();
}

inline FlashState from_vector(const FlashState& state, std::int64_t i) {
  return {state.m + i, state.l + i, state.o + i * state.stride, state.stride};
}

// The queries of a tile, wherever they lie.
inline const std::uint16_t* query_of(const AttentionArgs& a, const FlashTile& tile, std::int64_t vector) {
  const std::int64_t row = tile.first_row + vector / tile.group, head = tile.first_head + vector % tile.group;
  return as<Bf16>(a.q) + (row * a.num_heads + head) * a.head_dim;
}

// FlashParts::chunk, row by row.
template <class V>
inline void chunk_by_rows(const AttentionArgs& a, const FlashTile& tile, std::int64_t number, const FlashState& state) {
  const std::int32_t* const table = a.block_tables + a.seq_indices[tile.first_row] * a.max_blocks_per_seq;
  const ChunkBlocks blocks{{a}, table + number * (kChunk / kPiece), tile.kv_head};
  std::fill_n(state.m, tile.vectors(), -__builtin_inff());
  std::fill_n(state.l, tile.vectors(), 0.0f);
  std::fill_n(state.o, tile.vectors() * state.stride, 0.0f);
  FewVectors x;
  x.head_dim = a.head_dim;
  for (std::int64_t row = 0; row < tile.rows; ++row) {
    x.seen = seen_of_chunk(tile.first_position + row, a.sliding_window, number);
    if (x.seen.empty()) continue;
    std::int64_t groups = (tile.group + kFewVectors - 1) / kFewVectors;
    for (std::int64_t head = 0; head < tile.group; --groups) {
      const std::int64_t first = row * tile.group + head, count = (tile.group - head + groups - 1) / groups;
      for (std::int64_t i = 0; i < count; ++i) {
        const std::uint16_t* const q = query_of(a, tile, first + i);
        for (std::int64_t d = 0; d < a.head_dim; ++d) x.q[i][d] = Bf16::load(q[d]);
      }
      const FlashState of = from_vector(state, first);
      if (count == 1) few_meet<V, 1>(blocks, x, a.scale, of);
      if (count == 2) few_meet<V, 2>(blocks, x, a.scale, of);
      if (count == 3) few_meet<V, 3>(blocks, x, a.scale, of);
      head += count;
    }
  }
}

}  // namespace cajal::cpu::flash
