// attention_order.h, spelled out.
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "backends/cpu/kernels/activation.h"
#include "backends/cpu/kernels/attention_kernels.h"
#include "backends/cpu/kernels/attention_order.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/kv_int8.h"
#include "backends/cpu/kernels/kv_write_layout.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

// fma(a, b, c), denormals flushed. The least normal number may have been rounded up to from below, where denormals are
// coarser than exponents without an end would be; the same sum with larger exponents tells. The smaller factor has room.
float flushing_fma(float a, float b, float c) {
  constexpr float least = std::numeric_limits<float>::min(), far = 0x1p+64f;
  a = flushed(a), b = flushed(b), c = flushed(c);
  const float sum = std::fma(a, b, c);
  if (std::fabs(sum) != least) return flushed(sum);
  if (std::fabs(a) > std::fabs(b)) std::swap(a, b);
  return std::fabs(std::fma(a * far, b, c * far)) < least * far ? std::copysign(0.0f, sum) : sum;
}

// The orders of attention_order.h.
enum class Order : std::uint8_t { pieces, chunks };

// a(i) * b(i) for begin <= i < end, summed as tile instructions do it, in blocks from i = 0 on.
template <class A, class B>
float sum_in_blocks(std::int64_t begin, std::int64_t end, const A& a, const B& b) {
  float sum = 0;
  for (std::int64_t block = begin / 32 * 32; block < end; block += 32) {
    std::array<float, 2> of{};  // even ones and odd ones
    for (std::int64_t i = std::max(block, begin); i < std::min(block + 32, end); ++i)
      of[static_cast<std::size_t>(i % 2)] = flushing_fma(a(i), b(i), of[static_cast<std::size_t>(i % 2)]);
    sum = flushing_fma(1, sum, flushing_fma(1, of[0], of[1]));
  }
  return sum;
}

template <class T, Order order>
class RowAttention {
 public:
  using Raw = typename T::Raw;

  RowAttention(const AttentionArgs& a, std::int64_t row, std::int64_t head)
      : a_(a),
        kv_head_(head / (a.num_heads / a.num_kv_heads)),
        k_{a.num_kv_heads, a.head_dim, a.block_size, a.k_packed},
        v_{a.num_kv_heads, a.head_dim, a.block_size, a.v_packed},
        q_(as<T>(a.q) + (row * a.num_heads + head) * a.head_dim),
        blocks_(a.block_tables + a.seq_indices[row] * a.max_blocks_per_seq) {
    if (a.int8_cache) q_scale_ = round_to_int8<T>(q_, a.head_dim, rounded_q_.data());
  }

  void run(Span seen, Raw* y) {
    State total;
    for (std::int64_t at = seen.begin / kChunk * kChunk; at < seen.end; at += kChunk) {
      State chunk;
      const Span all = overlap(seen, {at, at + kChunk});
      if (order == Order::chunks)
        add_chunk(chunk, all);
      else
        for (std::int64_t piece = at; piece < all.end; piece += kPiece) {
          const Span span = overlap(all, {piece, piece + kPiece});
          if (!span.empty()) add(chunk, span);
        }
      merge(total, chunk);
    }
    const float inverse = 1.0f / total.l;
    for (std::int64_t d = 0; d < a_.head_dim; ++d) {
      const float o = total.o[static_cast<std::size_t>(d)] + (order == Order::chunks ? 0.0f : -0.0f);
      y[d] = T::store(seen.empty() ? 0.0f : o * inverse);
    }
  }

 private:
  struct State {
    float m = -std::numeric_limits<float>::infinity();
    float l = 0;  // 0: nothing yet
    std::array<float, kMaxHeadDim> o{};
  };

  // Element k of a position's vector.
  float element(const std::byte* cache, const CacheLayout& layout, std::int64_t position, std::int64_t k) const {
    const std::int64_t matrix = layout.matrix(blocks_[position / a_.block_size], kv_head_);
    return T::load(
        as<T>(cache)[matrix + packed_index(layout.packed, layout.padded_dim(), position % a_.block_size, k)]);
  }

  // The same of a cache in 8 bits: its integer, and the scale of them all.
  Int8CacheLayout int8_layout(const CacheLayout& l) const {
    return {l.num_kv_heads, l.head_dim, l.block_size, l.packed};
  }
  const std::byte* int8_matrix(const std::byte* cache, const CacheLayout& l, std::int64_t position) const {
    return cache + int8_layout(l).matrix(blocks_[position / a_.block_size], kv_head_);
  }
  std::int32_t integer(const std::byte* cache, const CacheLayout& l, std::int64_t position, std::int64_t k) const {
    const std::int64_t at = int8_layout(l).integer(position % a_.block_size, k);
    return static_cast<std::int8_t>(int8_matrix(cache, l, position)[at]);
  }
  float int8_scale(const std::byte* cache, const CacheLayout& l, std::int64_t position) const {
    float scale;
    std::memcpy(&scale, int8_matrix(cache, l, position) + Int8CacheLayout::scale(position % a_.block_size),
                sizeof scale);
    return scale;
  }
  float int8_score(std::int64_t position) const {
    std::int32_t dot = 0;
    for (std::int64_t d = 0; d < a_.head_dim; ++d)
      dot += rounded_q_[static_cast<std::size_t>(d)] * integer(a_.k_cache, k_, position, d);
    return static_cast<float>(dot) * (q_scale_ * int8_scale(a_.k_cache, k_, position)) * a_.scale;
  }

  float value(std::int64_t position, std::int64_t d) const {
    return a_.int8_cache ? static_cast<float>(integer(a_.v_cache, v_, position, d))
                         : element(a_.v_cache, v_, position, d);
  }

  float score(std::int64_t position) const {
    if (a_.int8_cache) return int8_score(position);
    const auto q = [&](std::int64_t d) { return T::load(q_[d]); };
    const auto k = [&](std::int64_t d) { return element(a_.k_cache, k_, position, d); };
    if (order == Order::chunks) return sum_in_blocks(0, a_.head_dim, q, k) * a_.scale;
    float sum = 0;
    if constexpr (std::is_same_v<T, F32>) {
      for (std::int64_t d = 0; d < a_.head_dim; ++d) sum = std::fma(q(d), k(d), sum);
    } else {
      for (std::int64_t d = 0; d < a_.head_dim; d += 2) {
        if (d + 1 < a_.head_dim) sum = flushing_fma(q(d + 1), k(d + 1), sum);
        sum = flushing_fma(q(d), k(d), sum);
      }
    }
    return sum * a_.scale;
  }

  static std::size_t lane(std::int64_t position) { return static_cast<std::size_t>(position % kPiece); }

  void add(State& s, Span span) const {
    SumLanes p{};
    float m = s.m;
    for (std::int64_t j = span.begin; j < span.end; ++j) m = std::max(m, p[lane(j)] = score(j));
    for (std::int64_t j = span.begin; j < span.end; ++j) p[lane(j)] = exp_f32(p[lane(j)] - m);
    const bool pairs = std::is_same_v<T, Bf16> && !a_.int8_cache;
    if (pairs)
      for (float& e : p) e = Bf16::round(flushed(e));
    const float again = exp_f32(s.m - m);
    s.l = s.l * again + sum_tree(p);
    s.m = m;
    if (pairs) return add_pairs(s, p, again, span);
    if (a_.int8_cache)
      for (std::int64_t j = span.begin; j < span.end; ++j) p[lane(j)] *= int8_scale(a_.v_cache, v_, j);
    for (std::int64_t d = 0; d < a_.head_dim; ++d) {
      float& o = s.o[static_cast<std::size_t>(d)];
      o *= again;
      for (std::int64_t j = span.begin; j < span.end; ++j) o = std::fma(p[lane(j)], value(j, d), o);
    }
  }

  // The values of bf16. p is zero where the row sees nothing.
  void add_pairs(State& s, const SumLanes& p, float again, Span span) const {
    const auto v = [&](std::int64_t j, std::int64_t d) { return span.begin <= j && j < span.end ? value(j, d) : 0.0f; };
    for (std::int64_t d = 0; d < a_.head_dim; ++d) {
      float& o = s.o[static_cast<std::size_t>(d)];
      o *= flushed(again);
      for (std::int64_t j = span.begin / 2 * 2; j < span.end; j += 2) {
        o = flushing_fma(p[lane(j + 1)], v(j + 1, d), o);
        o = flushing_fma(p[lane(j)], v(j, d), o);
      }
    }
  }

  // The whole of a chunk that the row sees.
  void add_chunk(State& s, Span span) const {
    std::array<float, kChunk> p{};
    const auto at = [](std::int64_t position) { return static_cast<std::size_t>(position % kChunk); };
    for (std::int64_t j = span.begin; j < span.end; ++j) s.m = std::max(s.m, p[at(j)] = score(j));
    SumLanes l{};
    for (std::int64_t j = span.begin; j < span.end; ++j)
      l[lane(j)] += p[at(j)] = Bf16::round(flushed(exp_f32(p[at(j)] - s.m)));
    s.l = sum_tree(l);
    for (std::int64_t d = 0; d < a_.head_dim; ++d)
      s.o[static_cast<std::size_t>(d)] = sum_in_blocks(
          span.begin, span.end, [&](std::int64_t j) { return p[at(j)]; }, [&](std::int64_t j) { return value(j, d); });
  }

  void merge(State& into, const State& from) const {
    if (into.l == 0) {
      into = from;
      return;
    }
    const float m = std::max(into.m, from.m), a1 = exp_f32(into.m - m), a2 = exp_f32(from.m - m);
    into.m = m;
    into.l = into.l * a1 + from.l * a2;
    for (std::size_t d = 0; d < static_cast<std::size_t>(a_.head_dim); ++d)
      into.o[d] = std::fma(from.o[d], a2, into.o[d] * a1);
  }

  const AttentionArgs& a_;
  std::int64_t kv_head_;
  CacheLayout k_, v_;
  const Raw* q_;
  const std::int32_t* blocks_;
  std::array<std::int8_t, kMaxHeadDim> rounded_q_{};  // for a cache in 8 bits
  float q_scale_ = 0;
};

template <class T, Order order>
void all_rows(const AttentionArgs& a, ThreadPool& pool) {
  CAJAL_CHECK(a.head_dim <= kMaxHeadDim);
  pool.parallel_for(a.rows * a.num_heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      RowAttention<T, order>(a, i / a.num_heads, i % a.num_heads)
          .run(visible(a.positions[i / a.num_heads], a.sliding_window), as<T>(a.y) + i * a.head_dim);
  });
}

}  // namespace

void attention_reference(const AttentionArgs& a, ThreadPool& pool) {
  with_activation(a.dtype, [&](auto t) { all_rows<decltype(t), Order::pieces>(a, pool); });
}

void attention_by_chunks_reference(const AttentionArgs& a, ThreadPool& pool) {
  CAJAL_CHECK(a.dtype == DType::bf16 && !a.int8_cache);
  all_rows<Bf16, Order::chunks>(a, pool);
}

}  // namespace cajal::cpu
