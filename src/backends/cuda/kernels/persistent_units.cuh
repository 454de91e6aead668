#pragma once
// Which units attention of decode_persistent consists of, and the merging of rows that have several pieces.
#include "backends/cuda/kernels/attention_block.cuh"
#include "backends/cuda/kernels/persistent_linear.cuh"

namespace cajal::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr int kTeamWarps = 4, kTeamThreads = kTeamWarps * 32;

struct Unit {
  int row, kv_head, first_head, heads, piece, pieces;
  bool first_part;  // of the heads of its kv head
  Span span;

  __device__ bool meets(int block) const {
    const int first = piece * kPiece + block * kBlock;
    return span.meets(first, first + kBlock);
  }
  __device__ int blocks() const {
    int n = 0;
    for (int b = 0; b < kBlocksPerPiece; ++b) n += meets(b);
    return n;
  }
};

__device__ inline Span span_of(const DecodeArgs& a, const DecodeShared& s, int row, int window) {
  const int end = s.position[row] + 1, size = a.windows[window];
  return {size > 0 && size < end ? end - size : 0, end};
}
__device__ inline int pieces_of(const Span& s) { return (s.end - 1) / kPiece - s.begin / kPiece + 1; }
__device__ inline int head_parts(const DecodeArgs& a) { return (a.num_heads / a.num_kv_heads + 15) / 16; }

// How many units, and rows of several pieces, come before each row: by one thread a window.
__device__ inline void count_units(const DecodeArgs& a, DecodeShared& s, int window, int rows) {
  int units = 0, merged = 0;
  for (int row = 0; row <= rows; ++row) {
    s.units[window][row] = units, s.merged[window][row] = merged;
    if (row == rows) return;
    const int pieces = pieces_of(span_of(a, s, row, window));
    units += pieces * a.num_kv_heads * head_parts(a);
    merged += pieces > 1;
  }
}

__device__ inline Unit find_unit(const DecodeArgs& a, const DecodeShared& s, int window, int index) {
  Unit u;
  u.row = 0;
  while (s.units[window][u.row + 1] <= index) ++u.row;
  u.span = span_of(a, s, u.row, window);
  u.pieces = pieces_of(u.span);
  const int parts = head_parts(a), group = a.num_heads / a.num_kv_heads, here = index - s.units[window][u.row];
  const int part = here % (a.num_kv_heads * parts);
  u.piece = u.span.begin / kPiece + here / (a.num_kv_heads * parts);
  u.kv_head = part / parts;
  u.first_part = part % parts == 0;
  u.first_head = u.kv_head * group + part % parts * 16;
  u.heads = min(16, (u.kv_head + 1) * group - u.first_head);
  return u;
}

// Partial results of rows of several pieces: o[row][head][piece][D], then m and l [row][head][D / 32][piece][2]. All ones
// between steps and layers: who merges them cleans up behind itself, and neighbouring layers take different halves.
struct Partials {
  float* o;
  float* ml;
  int heads, pieces, dim;
  __device__ Partials(const DecodeArgs& a, int layer);
  __device__ float* o_at(int row, int head, int piece) const {
    return o + ((static_cast<std::int64_t>(row) * heads + head) * pieces + piece) * dim;
  }
  __device__ float* ml_at(int row, int head, int quarter, int piece) const {
    return ml + (((static_cast<std::int64_t>(row) * heads + head) * (dim / 32) + quarter) * pieces + piece) * 2;
  }
};
__host__ __device__ inline int most_pieces(const DecodeArgs& a) { return (a.max_blocks_per_seq + 3) / 4; }
__host__ __device__ inline std::int64_t partial_floats(const DecodeArgs& a) {
  return std::int64_t{a.tokens.most} * a.num_heads * most_pieces(a) * (a.head_dim + a.head_dim / 16);
}
__device__ inline Partials::Partials(const DecodeArgs& a, int layer)
    : o(reinterpret_cast<float*>(a.exchange + 4 * a.num_layers * exchange_layer_elements(a)) +
        (layer & 1) * partial_floats(a)),
      ml(o + std::int64_t{a.tokens.most} * a.num_heads * most_pieces(a) * a.head_dim),
      heads(a.num_heads),
      pieces(most_pieces(a)),
      dim(a.head_dim) {}

__device__ inline void put(float* to, float v) {
  asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" ::"l"(to), "f"(v) : "memory");
}
__device__ inline void clean_word(float* at) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(at), "r"(~0u) : "memory");
}
__device__ inline std::uint32_t load_word(const float* from) {
  std::uint32_t v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
  return v;
}

__host__ __device__ inline int unit_heads(const DecodeArgs& a) {
  const int group = a.num_heads / a.num_kv_heads;
  return group < 16 ? group : 16;
}

// One number of a row's result: its m and l come along.
struct Merged {
  float m = -INFINITY, l = 0, o = 0;
  __device__ void add(float other_m, float other_l, float other_o) {
    const Merge by(m, other_m);
    m = by.m, l = by(l, other_l), o = by(o, other_o);
  }
};

// 32 columns of a head: its pieces in ascending order, kAtOnce at a time.
constexpr int kAtOnce = 8;
__device__ __forceinline__ void merge_pieces(const Consumer& c, const Exchange& at, const Phase& phase, int row,
                                             int head, int quarter) {
  const int layer = phase.layer;
  const Partials partials(c.a, layer);
  const Span span = span_of(c.a, decode_shared(), row, phase.window);
  const int last = (span.end - 1) / kPiece, d = quarter * 32 + c.lane();
  Merged total;
  for (int first = span.begin / kPiece; first <= last; first += kAtOnce) {
    const int n = min(kAtOnce, last - first + 1);
    float* ml = partials.ml_at(row, head, quarter, first + min(c.lane(), n - 1));
    float* o = partials.o_at(row, head, first) + d;
    std::uint32_t m = load_word(ml), l = load_word(ml + 1), v[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
      if (i < n) v[i] = load_word(o + i * partials.dim);
    for (Patience patience;; patience.spend()) {
      bool again = m == ~0u || l == ~0u;
      if (again) m = load_word(ml), l = load_word(ml + 1);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        if (i < n && v[i] == ~0u) v[i] = load_word(o + i * partials.dim), again = true;
      if (!again) break;
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (i >= n) continue;
      clean_word(o + i * partials.dim);
      total.add(__uint_as_float(__shfl_sync(~0u, m, i)), __uint_as_float(__shfl_sync(~0u, l, i)),
                __uint_as_float(v[i]));
    }
    if (c.lane() < n) clean_word(ml), clean_word(ml + 1);
  }
  put(at.attention(layer) + static_cast<std::int64_t>(row) * at.attention_columns() + head * partials.dim + d,
      total.o / total.l);
  __threadfence();  // the next to use these partial results, two layers on, must find them clean
}

}  // namespace cajal::cuda
