#pragma once
// The row-wise ops on vectors of any width: V is V of elementwise_vec256.h or elementwise_vec512.h. Included *inside* the
// target region of the file that instantiates it, so it includes nothing but what that file has already included.
#include "backends/cpu/kernels/elementwise_isa.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/kv_int8_vec.h"
#include "backends/cpu/kernels/kv_write_layout.h"

namespace cajal::cpu::rows {

// Whole vectors and a tail: n lanes from column i on, known when it is compiled where there is no tail. (No lambdas in these
// templates: GCC compiles those of a template without the region's instruction set.)
template <class V, bool kWhole = false>
inline std::int64_t lanes_at(std::int64_t i, std::int64_t columns) {
  return kWhole ? V::kLanes : std::min(V::kLanes, columns - i);
}

template <class V, class Raw>
inline typename V::F load(const Raw* p, std::int64_t n) {
  return n == V::kLanes ? V::load(p) : V::load(p, n);
}
template <class V, class Raw>
inline void store(Raw* p, typename V::F v, std::int64_t n) {
  if (n == V::kLanes)
    V::store(p, v);
  else
    V::store(p, v, n);
}

// sum_of_squares(): the partial sums are the lanes of 64 / kLanes accumulators.
template <class V, class T>
inline float squares(const typename T::Raw* x, std::int64_t columns) {
  constexpr std::int64_t parts = kSumLanes / V::kLanes;
  typename V::F sum[parts];
  for (auto& s : sum) s = V::zero();
  std::int64_t i = 0;
  for (; i + kSumLanes <= columns; i += kSumLanes)
    for (std::int64_t part = 0; part < parts; ++part) {
      const auto v = V::load(x + i + part * V::kLanes);
      sum[part] = V::fma(v, v, sum[part]);
    }
  for (std::int64_t part = 0; i < columns; ++part, i += V::kLanes) {
    const auto v = load<V>(x + i, std::min(V::kLanes, columns - i));
    sum[part] = V::fma(v, v, sum[part]);
  }
  return V::sum_tree(sum);
}

template <class V, class T>
inline typename V::F normed(typename V::F x, typename V::F factor, typename V::F weight) {
  return V::mul(V::round(T{}, V::mul(x, factor)), weight);
}

template <class V, class T>
inline void norm_row(const typename T::Raw* x, const typename T::Raw* weight, typename T::Raw* y, std::int64_t columns,
                     float epsilon) {
  const auto factor = V::set1(norm_factor(squares<V, T>(x, columns), columns, epsilon));
  for (std::int64_t i = 0; i < columns; i += V::kLanes) {
    const std::int64_t n = lanes_at<V>(i, columns);
    store<V>(y + i, normed<V, T>(load<V>(x + i, n), factor, load<V>(weight + i, n)), n);
  }
}

template <class V, class T>
inline void add_row(const typename T::Raw* a, const typename T::Raw* b, typename T::Raw* y, std::int64_t columns) {
  for (std::int64_t i = 0; i < columns; i += V::kLanes) {
    const std::int64_t n = lanes_at<V>(i, columns);
    store<V>(y + i, V::add(load<V>(a + i, n), load<V>(b + i, n)), n);
  }
}

template <class V, class T>
inline void silu_mul_row(const typename T::Raw* gate, const typename T::Raw* up, typename T::Raw* y,
                         std::int64_t columns) {
  for (std::int64_t i = 0; i < columns; i += V::kLanes) {
    const std::int64_t n = lanes_at<V>(i, columns);
    store<V>(y + i, V::mul(V::round(T{}, V::silu(load<V>(gate + i, n))), load<V>(up + i, n)), n);
  }
}

// x1 and x2 are the halves at column i; rotates them into y.
template <class V, class T>
inline void rotate(typename V::F x1, typename V::F x2, const typename T::Raw* table, typename T::Raw* y,
                   std::int64_t half, std::int64_t i, std::int64_t n) {
  const auto cosine = load<V>(table + i, n), sine = load<V>(table + half + i, n);
  store<V>(y + i, V::sub(V::round(T{}, V::mul(x1, cosine)), V::round(T{}, V::mul(x2, sine))), n);
  store<V>(y + half + i, V::add(V::round(T{}, V::mul(x2, cosine)), V::round(T{}, V::mul(x1, sine))), n);
}

template <class V, class T>
inline void rotate_row(const typename T::Raw* x, const typename T::Raw* table, typename T::Raw* y,
                       std::int64_t head_dim) {
  const std::int64_t half = head_dim / 2;
  for (std::int64_t i = 0; i < half; i += V::kLanes) {
    const std::int64_t n = lanes_at<V>(i, half);
    rotate<V, T>(load<V>(x + i, n), load<V>(x + half + i, n), table, y, half, i, n);
  }
}

template <class V, class T, bool kWhole>
inline void norm_rotate_halves(const typename T::Raw* x, const typename T::Raw* weight, const typename T::Raw* table,
                               typename T::Raw* y, std::int64_t half, typename V::F factor) {
  for (std::int64_t i = 0; i < half; i += V::kLanes) {
    const std::int64_t n = lanes_at<V, kWhole>(i, half);
    const auto x1 = normed<V, T>(load<V>(x + i, n), factor, load<V>(weight + i, n));
    const auto x2 = normed<V, T>(load<V>(x + half + i, n), factor, load<V>(weight + half + i, n));
    rotate<V, T>(V::round(T{}, x1), V::round(T{}, x2), table, y, half, i, n);
  }
}

template <class V, class T>
inline void norm_rotate_row(const typename T::Raw* x, float factor, const typename T::Raw* weight,
                            const typename T::Raw* table, typename T::Raw* y, std::int64_t head_dim) {
  const std::int64_t half = head_dim / 2;
  half % V::kLanes == 0 ? norm_rotate_halves<V, T, true>(x, weight, table, y, half, V::set1(factor))
                        : norm_rotate_halves<V, T, false>(x, weight, table, y, half, V::set1(factor));
}

// Factors of as many vectors, `step` elements from one to the next, before any is used: each waits for a sum, a root and a
// quotient, and only what does not need it can be done meanwhile.
constexpr std::int64_t kFactorsAtOnce = 16;
template <class V, class T>
inline void norm_factors(const typename T::Raw* x, std::int64_t step, std::int64_t count, std::int64_t columns,
                         float epsilon, float (&factors)[kFactorsAtOnce]) {
  for (std::int64_t i = 0; i < count; ++i)
    factors[i] = norm_factor(squares<V, T>(x + i * step, columns), columns, epsilon);
}

// A rotated key and its value into a cache in 8 bits.
template <class V, class T>
inline void write_int8(const QkNormRopeKvWriteArgs& a, std::int64_t slot, std::int64_t head, const typename T::Raw* k,
                       const typename T::Raw* v) {
  const Int8CacheLayout k_layout{a.num_kv_heads, a.head_dim, a.block_size, a.k_packed};
  const Int8CacheLayout v_layout{a.num_kv_heads, a.head_dim, a.block_size, a.v_packed};
  std::int8_t integers[kMaxHeadDim];
  const float k_scale = round_int8<V, T>(k, a.head_dim, integers);
  write_int8_slot(k_layout, a.k_cache, slot, head, integers, k_scale);
  const float v_scale = round_int8<V, T>(v, a.head_dim, integers);
  write_int8_slot(v_layout, a.v_cache, slot, head, integers, v_scale);
}

template <class V, class T>
inline void norm_rope_queries(const QkNormRopeKvWriteArgs& a, std::int64_t row, std::int64_t first, std::int64_t last) {
  const std::int64_t dim = a.head_dim, columns = (a.num_heads + 2 * a.num_kv_heads) * dim;
  const typename T::Raw *q = as<T>(a.qkv) + row * columns, *table = as<T>(a.table) + row * dim;
  float factors[kFactorsAtOnce];
  for (std::int64_t head = first; head < last; head += kFactorsAtOnce) {
    const std::int64_t count = std::min(kFactorsAtOnce, last - head);
    norm_factors<V, T>(q + head * dim, dim, count, dim, a.epsilon, factors);
    for (std::int64_t i = head; i < head + count; ++i)
      norm_rotate_row<V, T>(q + i * dim, factors[i - head], as<T>(a.q_norm), table,
                            as<T>(a.q) + (row * a.num_heads + i) * dim, dim);
  }
}

// Keys and values go head by head, so that the rows of a packed tile meet its cache lines while those are near.
template <class V, class T>
inline void norm_rope_keys(const QkNormRopeKvWriteArgs& a, std::int64_t head, std::int64_t begin, std::int64_t end) {
  using Raw = typename T::Raw;
  const std::int64_t dim = a.head_dim, columns = (a.num_heads + 2 * a.num_kv_heads) * dim;
  const CacheLayout k_layout{a.num_kv_heads, dim, a.block_size, a.k_packed};
  const CacheLayout v_layout{a.num_kv_heads, dim, a.block_size, a.v_packed};
  const Raw* keys = as<T>(a.qkv) + (a.num_heads + head) * dim;
  float factors[kFactorsAtOnce];
  for (std::int64_t first = begin; first < end; first += kFactorsAtOnce) {
    const std::int64_t count = std::min(kFactorsAtOnce, end - first);
    norm_factors<V, T>(keys + first * columns, columns, count, dim, a.epsilon, factors);
    for (std::int64_t row = first; row < first + count; ++row) {
      const Raw *k = keys + row * columns, *v = k + a.num_kv_heads * dim;
      Raw rotated[kMaxHeadDim];
      norm_rotate_row<V, T>(k, factors[row - first], as<T>(a.k_norm), as<T>(a.table) + row * dim, rotated, dim);
      if (a.int8_cache) {
        write_int8<V, T>(a, a.slot_mapping[row], head, rotated, v);
        continue;
      }
      write_slot(k_layout, as<T>(a.k_cache) + k_layout.slot(a.slot_mapping[row], head), rotated);
      write_slot(v_layout, as<T>(a.v_cache) + v_layout.slot(a.slot_mapping[row], head), v);
    }
  }
}

template <class V, class T>
inline void norm_rope_write(const QkNormRopeKvWriteArgs& a, const RowsOfHeads& part) {
  const std::int64_t group = a.num_heads / a.num_kv_heads;
  for (std::int64_t row = part.begin; row < part.end; ++row)
    norm_rope_queries<V, T>(a, row, part.first * group, part.last * group);
  for (std::int64_t head = part.first; head < part.last; ++head) norm_rope_keys<V, T>(a, head, part.begin, part.end);
}

}  // namespace cajal::cpu::rows
