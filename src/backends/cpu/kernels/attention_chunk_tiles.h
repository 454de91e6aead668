#pragma once
// Attention a chunk at a time by tile registers: HardwareTiles of amx.h or PortableTiles. Included *inside* a target region, behind
// one of these and attention_chunk.h.
#include "backends/cpu/kernels/attention_chunk.h"
#include "backends/cpu/kernels/attention_tile.h"
#include "backends/cpu/kernels/tile_step.h"

namespace cajal::cpu::flash {

constexpr std::int64_t kTileLines = 16, kTileNumbers = kTileLines * kStep, kLineBytes = 64;
constexpr std::int64_t kGroupVectors = 2 * kTileLines;  // that meet keys and values together
constexpr std::int64_t kProductStride = kChunk + 16;    // rows of products begin in different sets of a cache

// A thread's memory for a chunk. Panels are [..][16][32] numbers in bf16, as registers are.
struct ChunkMemory {
  std::uint16_t* values;         // [step][16 columns]: pairs of positions by columns
  std::uint16_t* queries;        // [16 vectors][step of head_dim]
  std::uint16_t* probabilities;  // [16 vectors][step]
  float* products;               // [vectors, kProductStride]

  static std::int64_t value_numbers(std::int64_t head_dim) { return kChunk * head_dim; }
  static std::int64_t query_numbers(std::int64_t head_dim) { return kGroupVectors * head_dim; }
  static std::int64_t bytes(std::int64_t head_dim) {
    return (value_numbers(head_dim) + query_numbers(head_dim) + kGroupVectors * kChunk) * 2 +
           kGroupVectors * kProductStride * 4;
  }
  ChunkMemory(std::byte* memory, std::int64_t head_dim)
      : values(reinterpret_cast<std::uint16_t*>(memory)),
        queries(values + value_numbers(head_dim)),
        probabilities(queries + query_numbers(head_dim)),
        products(reinterpret_cast<float*>(probabilities + kGroupVectors * kChunk)) {}
};

template <class Tiles, class V>
class ChunkByTiles {
 public:
  static bool accepts(const AttentionArgs& a, const FlashTile& tile) {
    return tile.vectors() >= kLeastVectors && a.head_dim % kStep == 0;
  }

  ChunkByTiles(const AttentionArgs& a, const FlashTile& tile, std::int64_t number, const FlashState& state,
               std::byte* memory)
      : a_(a),
        tile_(tile),
        number_(number),
        state_(state),
        memory_(memory, a.head_dim),
        blocks_{{a},
                a.block_tables + a.seq_indices[tile.first_row] * a.max_blocks_per_seq + number * (kChunk / kPiece),
                tile.kv_head} {}

  // False where a value is infinite or NaN, which vectors that do not see it must not even multiply by zero.
  bool run() {
    const Span seen = seen_by(0, tile_.vectors());
    if (!pack_values(seen)) return false;
    for (std::int64_t first = 0; first < tile_.vectors(); first += kGroupVectors) {
      const std::int64_t count = std::min(kGroupVectors, tile_.vectors() - first);
      const Span around = pieces_around(seen_by(first, count));
      if (count > kTileLines)
        group<2>(first, count, around);
      else
        group<1>(first, count, around);
    }
    return true;
  }

 private:
  // With fewer, reading is what takes the time.
  static constexpr std::int64_t kLeastVectors = 8;

  Span seen(std::int64_t vector) const {
    return seen_of_chunk(tile_.first_position + vector / tile_.group, a_.sliding_window, number_);
  }
  // By any of the vectors, and what lies between.
  Span seen_by(std::int64_t first, std::int64_t count) const {
    const std::int64_t begin = number_ * kChunk, last = tile_.first_position + (first + count - 1) / tile_.group;
    const Span all{visible(tile_.first_position + first / tile_.group, a_.sliding_window).begin - begin,
                   last + 1 - begin};
    return overlap(all, {0, kChunk});
  }

  bool pack_values(Span seen) const {
    const __m512i low = _mm512_load_si512(kLow.from), high = _mm512_load_si512(kHigh.from);
    __m512i most = _mm512_setzero_si512();  // of the numbers without their signs
    const Span around = pieces_around(seen);
    for (std::int64_t j = around.begin; j < around.end; j += 2) {
      const std::uint16_t* const v = blocks_.v(j) + j % kPiece * a_.head_dim;
      const bool sees_even = seen.begin <= j && j < seen.end, sees_odd = seen.begin <= j + 1 && j + 1 < seen.end;
      const std::uint16_t *even = sees_even ? v : kNoValues, *odd = sees_odd ? v + a_.head_dim : kNoValues;
      std::uint16_t* to = memory_.values + j / kStep * kStep * a_.head_dim + j % kStep / 2 * kStep;
      for (std::int64_t d = 0; d < a_.head_dim; d += kStep, to += 2 * kTileNumbers) {
        const __m512i evens = _mm512_loadu_si512(even), odds = _mm512_loadu_si512(odd);
        even += sees_even ? kStep : 0, odd += sees_odd ? kStep : 0;
        most = _mm512_max_epu16(most, _mm512_max_epu16(_mm512_slli_epi16(evens, 1), _mm512_slli_epi16(odds, 1)));
        _mm512_storeu_si512(to, _mm512_permutex2var_epi16(evens, low, odds));
        _mm512_storeu_si512(to + kTileNumbers, _mm512_permutex2var_epi16(evens, high, odds));
      }
    }
    constexpr int kInfinity = 0xff00;
    return _mm512_cmpge_epu16_mask(most, _mm512_set1_epi16(static_cast<short>(kInfinity))) == 0;
  }

  void pack_queries(std::int64_t first, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint16_t* const q = query_of(a_, tile_, first + i);
      std::uint16_t* const to = memory_.queries + i / kTileLines * kTileLines * a_.head_dim + i % kTileLines * kStep;
      for (std::int64_t d = 0; d < a_.head_dim; d += kStep)
        _mm512_storeu_si512(to + d * kTileLines, _mm512_loadu_si512(q + d));
    }
  }

  // Vectors first..first+count-1 of the tile, 16 or more of them where there are two registers of them.
  template <int kX>
  void group(std::int64_t first, std::int64_t count, Span around) {
    constexpr int kOutputs = 4 / kX;
    const int last = static_cast<int>(count - (kX - 1) * kTileLines);
    configure<kX>(last);
    pack_queries(first, count);
    Flushing<V>::begin();  // for PortableTiles
    for (std::int64_t j = around.begin; j < around.end; j += kOutputs * kTileLines) multiply_keys<kX, kOutputs>(j);
    Flushing<V>::end();
    for (std::int64_t i = 0; i < count; ++i) find_probabilities(first + i, i, around);
    float* const o = state_.o + first * state_.stride;
    std::int64_t d = 0;
    Flushing<V>::begin();
    for (; d + kOutputs * kTileLines <= a_.head_dim; d += kOutputs * kTileLines) weigh<kX, kOutputs>(d, around, o);
    if (d < a_.head_dim) weigh<kX, 2>(d, around, o);
    Flushing<V>::end();
  }

  template <int kX>
  void configure(int last) {
    int rows[8];
    constexpr int kRowBytes[8] = {64, 64, 64, 64, 64, 64, 64, 64};
    for (int& r : rows) r = kTileLines;
    const int sums = kX == 1 ? 0 : 2;
    for (int i = sums; i < 4; ++i) rows[i] = last;
    rows[4 + kX - 1] = last;
    tiles_.configure(rows, kRowBytes);
  }

  template <int kX, int kOutputs>
  void multiply_keys(std::int64_t j) {
    constexpr std::int64_t kKeyRow = 2 * kPiece * 2;
    const auto* k = reinterpret_cast<const std::byte*>(blocks_.k(j) + j % kPiece * 2);
    unroll<kX * kOutputs>([&]<int kSum>() { tiles_.template zero<kSum>(); });
    const std::byte* x[kX];
    for (int i = 0; i < kX; ++i)
      x[i] = reinterpret_cast<const std::byte*>(memory_.queries + i * kTileLines * a_.head_dim);
    for (std::int64_t d = 0; d < a_.head_dim; d += kStep, k += kTileLines * kKeyRow) {
      multiply_step<kX, kOutputs>(tiles_, x, kLineBytes, {k, kKeyRow}, kLineBytes);
      for (int i = 0; i < kX; ++i) x[i] += kTileNumbers * 2;
    }
    unroll<kX * kOutputs>([&]<int kSum>() {
      float* const to =
          memory_.products + kSum / kOutputs * kTileLines * kProductStride + j + kSum % kOutputs * kTileLines;
      tiles_.template store<kSum>(to, kProductStride * 4);
    });
  }

  // The probabilities of vector i of a group.
  void find_probabilities(std::int64_t vector, std::int64_t i, Span around) const {
    struct {
      std::uint16_t* p;
      void operator()(std::int64_t at, __m512i rounded, const __m512 (&)[2]) const {
        _mm512_storeu_si512(p + at * kTileLines, rounded);
      }
    } const put{memory_.probabilities + i / kTileLines * kTileLines * kChunk + i % kTileLines * kStep};
    softmax<V>(memory_.products + i * kProductStride, around, seen(vector), a_.scale, state_.m[vector],
               state_.l[vector], put);
  }

  template <int kX, int kOutputs>
  void weigh(std::int64_t d, Span around, float* o) {
    unroll<kX * kOutputs>([&]<int kSum>() { tiles_.template zero<kSum>(); });
    for (std::int64_t j = around.begin; j < around.end; j += kStep) {
      const std::byte* x[kX];
      for (int i = 0; i < kX; ++i)
        x[i] = reinterpret_cast<const std::byte*>(memory_.probabilities + (i * kChunk + j) * kTileLines);
      const auto* const v = reinterpret_cast<const std::byte*>(memory_.values + j * a_.head_dim + d * kStep);
      multiply_step<kX, kOutputs>(tiles_, x, kLineBytes, {v, kLineBytes}, kTileNumbers * 2);
    }
    unroll<kX * kOutputs>([&]<int kSum>() {
      float* const to = o + kSum / kOutputs * kTileLines * state_.stride + d + kSum % kOutputs * kTileLines;
      tiles_.template store<kSum>(to, state_.stride * 4);
    });
  }

  const AttentionArgs& a_;
  const FlashTile& tile_;
  std::int64_t number_;
  const FlashState& state_;
  ChunkMemory memory_;
  ChunkBlocks blocks_;
  Tiles tiles_;
};

// FlashParts::chunk.
template <class Tiles, class V>
inline void chunk_by_tiles(const AttentionArgs& a, const FlashTile& tile, std::int64_t number, const FlashState& state,
                           std::byte* memory) {
  if (ChunkByTiles<Tiles, V>::accepts(a, tile) && ChunkByTiles<Tiles, V>(a, tile, number, state, memory).run()) return;
  chunk_by_rows<V>(a, tile, number, state);
}

template <class Tiles, class V>
constexpr FlashParts chunk_parts() {
  return {.chunk = chunk_by_tiles<Tiles, V>,
          .merge = merge<V>,
          .finish = finish<V, Bf16, true>,
          .tile_vectors = 128,  // packing values is paid for by all
          .chunk_bytes = ChunkMemory::bytes};
}

}  // namespace cajal::cpu::flash
