#pragma once
// What a tile meets: the queries and the blocks of a cache, as the flash kernels of every instruction set see them. Included
// before their target regions, so that nothing here is compiled for one.
#include <iterator>

#include "backends/cpu/kernels/attention_kernels.h"
#include "backends/cpu/kernels/attention_order.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/kv_int8.h"
#include "backends/cpu/kernels/kv_write_layout.h"
#include "backends/cpu/unroll.h"

namespace cajal::cpu::flash {

// Up to this many vectors of q go through a block of keys together.
constexpr std::int64_t kMaxVectors = 8;

// A block of 64 positions as some vectors of a tile meet it.
template <class Raw>
struct Block {
  const Raw *k, *v;
  const Raw* next_k;  // of the block after it, to be fetched early
  std::int64_t first_position;
  std::int64_t head_dim;
  const float *k_scales = nullptr, *v_scales = nullptr;  // by position, of a cache in 8 bits
};

template <class Raw>
struct Vectors {
  const Raw* q[kMaxVectors];
  Span seen[kMaxVectors];  // within the block
  float *m, *l, *o;        // of the first vector
  std::int64_t stride;
  float q_scale[kMaxVectors];  // of queries in 8 bits, and the sums of their integers
  std::int32_t q_sum[kMaxVectors];
  float again[kMaxVectors];                  // factor of what was there before
  alignas(64) float p[kMaxVectors][kPiece];  // scores, then probabilities, in the end as Dot::keep() leaves them

  // Vector i sees the positions whose bits are set.
  std::uint64_t seen_bits(int i) const {
    return ~std::uint64_t{0} << seen[i].begin & ~std::uint64_t{0} >> (kPiece - seen[i].end);
  }
};

// Few vectors wait for memory, not for arithmetic: while they read keys they fetch the values, and then the next keys.
template <class Dot, int M>
constexpr bool kFetches = M <= Dot::kRows - 2;

template <std::int64_t kElements, class Raw>
inline void fetch(const Raw* p) {
  CAJAL_UNROLL for (std::int64_t i = 0; i < kElements; i += 64 / static_cast<std::int64_t>(sizeof(Raw)))
      __builtin_prefetch(p + i);
}

// Values of a position that is not seen, up to the columns that a step takes at once.
alignas(64) inline constexpr std::uint16_t kNoValues[64] = {};

// Where the elements of two rows of 32 go: pairs of the first or the last 16 columns.
struct Interleaving {
  alignas(64) std::uint16_t from[32];
  constexpr explicit Interleaving(int first) : from{} {
    for (int i = 0; i < 32; ++i) from[i] = static_cast<std::uint16_t>(first + i / 2 + i % 2 * 32);
  }
};
inline constexpr Interleaving kLow(0), kHigh(16);

// The values of the positions of a step, columns from d on. Those outside `span` are zeros, whatever the slots hold.
template <class Raw>
inline void rows_of_step(const Raw* v, std::int64_t, Span, std::int64_t, const Raw* (&rows)[1]) {
  rows[0] = v;
}
template <class Raw>
inline void rows_of_step(const Raw* v, std::int64_t j, Span span, std::int64_t head_dim, const Raw* (&rows)[2]) {
  rows[0] = j >= span.begin ? v : kNoValues;
  rows[1] = j + 1 < span.end ? v + head_dim : kNoValues;
}

// The queries of a tile, where they lie in the step.
template <class T>
struct StepQueries {
  const AttentionArgs& a;
  const FlashTile& tile;
  void give(std::int64_t vector, Vectors<typename T::Raw>& x, std::int64_t i) const {
    const std::int64_t row = tile.first_row + vector / tile.group, head = tile.first_head + vector % tile.group;
    x.q[i] = as<T>(a.q) + (row * a.num_heads + head) * a.head_dim;
  }
};

// Where the blocks of a cache lie.
template <class T>
struct StepBlocks {
  const AttentionArgs& a;
  CacheLayout layout{a.num_kv_heads, a.head_dim, a.block_size, a.k_packed};  // V is plain and as large
  Block<typename T::Raw> block(std::int64_t block, std::int64_t next, std::int64_t kv_head) const {
    const std::int64_t at = layout.matrix(block, kv_head);
    return {as<T>(a.k_cache) + at, as<T>(a.v_cache) + at, as<T>(a.k_cache) + layout.matrix(next, kv_head), 0,
            a.head_dim};
  }
};

// Queries that are rounded for a cache in 8 bits, as round_to_int8() does it.
template <class T>
struct RoundedQueries {
  float scale[kMaxInt8Vectors];
  std::int32_t sum[kMaxInt8Vectors];
  std::int64_t head_dim;
  alignas(64) std::int8_t integers[kMaxInt8Vectors * kMaxHeadDim];

  void give(std::int64_t vector, Vectors<std::int8_t>& x, std::int64_t i) const {
    x.q[i] = integers + vector * head_dim;
    x.q_scale[i] = scale[vector];
    x.q_sum[i] = sum[vector];
  }
};

struct Int8Blocks {
  const AttentionArgs& a;
  Int8CacheLayout layout{a.num_kv_heads, a.head_dim, a.block_size, a.k_packed};  // V is plain and as large
  Block<std::int8_t> block(std::int64_t block, std::int64_t next, std::int64_t kv_head) const {
    const std::byte *k = a.k_cache + layout.matrix(block, kv_head), *v = a.v_cache + layout.matrix(block, kv_head);
    const std::byte* next_k = a.k_cache + layout.matrix(next, kv_head);
    const std::int64_t integers = layout.integers();
    return {reinterpret_cast<const std::int8_t*>(k + integers),
            reinterpret_cast<const std::int8_t*>(v + integers),
            reinterpret_cast<const std::int8_t*>(next_k + integers),
            0,
            a.head_dim,
            reinterpret_cast<const float*>(k),
            reinterpret_cast<const float*>(v)};
  }
};

}  // namespace cajal::cpu::flash
