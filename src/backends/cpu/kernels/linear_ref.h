#pragma once
// Elements and dot products one by one: the meaning of the matrix kernels, whatever the storage.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "tensor/tensor.h"

namespace cajal::cpu {

inline float load_element(const std::byte* data, std::int64_t i, DType dtype) {
  if (dtype == DType::f32) {
    float v;
    std::memcpy(&v, data + i * 4, sizeof v);
    return v;
  }
  CAJAL_CHECK(dtype == DType::bf16, "a kernel for ", to_string(dtype));
  std::uint16_t v;
  std::memcpy(&v, data + i * 2, sizeof v);
  return bf16_to_float(v);
}

inline void store_element(std::byte* data, std::int64_t i, DType dtype, float value) {
  if (dtype == DType::f32) {
    std::memcpy(data + i * 4, &value, sizeof value);
  } else {
    const std::uint16_t rounded = float_to_bf16(value);
    std::memcpy(data + i * 2, &rounded, sizeof rounded);
  }
}

inline float round_to(DType dtype, float value) {
  return dtype == DType::bf16 ? bf16_to_float(float_to_bf16(value)) : value;
}

// A [N,K] matrix, plain ({1,1}) or packed.
struct MatrixRef {
  const std::byte* data;
  std::int64_t columns;
  Packed packed;
  DType dtype;

  std::int64_t padded_columns() const { return (columns + packed.group - 1) / packed.group * packed.group; }
  float at(std::int64_t n, std::int64_t k) const {
    return load_element(data, packed_index(packed, padded_columns(), n, k), dtype);
  }
};

// How a part of a sum of bf16 products is added up: by pairs, the odd element first, or in the order of tile instructions
// (tile_product.h).
enum class Order : std::uint8_t { pairs, tiles };

// The columns [first, first + length) of a bf16 product in blocks of 32, in each the even ones and the odd ones by themselves.
inline float dot_in_blocks_ref(const std::byte* x, const MatrixRef& weight, std::int64_t n, std::int64_t first,
                               std::int64_t length) {
  constexpr std::int64_t kColumns = 32;
  float sum = 0;
  for (std::int64_t block = first; block < first + length; block += kColumns) {
    float of[2] = {0, 0};  // even columns and odd ones
    for (std::int64_t k = block; k < std::min(block + kColumns, first + length); ++k)
      of[(k - block) % 2] = std::fma(load_element(x, k, DType::bf16), weight.at(n, k), of[(k - block) % 2]);
    sum += of[0] + of[1];
  }
  return sum;
}

// x[K] . row n of the weight: `parts` equal parts of k, each summed in order from zero, added as a balanced tree. For bf16
// denormals are flushed (by the caller's FlushDenormals).
inline float dot_ref(const std::byte* x, const MatrixRef& weight, std::int64_t n, std::int64_t first,
                     std::int64_t length, int parts, Order order) {
  if (parts > 1) {
    const std::int64_t half = length / 2;
    const float low = dot_ref(x, weight, n, first, half, parts / 2, order);
    return low + dot_ref(x, weight, n, first + half, half, parts / 2, order);
  }
  float sum = 0;
  if (weight.dtype == DType::f32) {
    for (std::int64_t k = first; k < first + length; ++k)
      sum = std::fma(load_element(x, k, DType::f32), weight.at(n, k), sum);
    return sum;
  }
  if (order == Order::tiles) return dot_in_blocks_ref(x, weight, n, first, length);
  for (std::int64_t k = first; k < first + length; k += 2) {
    const bool pair = k + 1 < first + length;
    sum = std::fma(pair ? load_element(x, k + 1, DType::bf16) : 0.0f, pair ? weight.at(n, k + 1) : 0.0f, sum);
    sum = std::fma(load_element(x, k, DType::bf16), weight.at(n, k), sum);
  }
  return sum;
}

inline float dot_ref(const std::byte* x, const MatrixRef& weight, std::int64_t n, int parts,
                     Order order = Order::pairs) {
  CAJAL_CHECK(parts == 1 || weight.columns % (2 * parts) == 0, "a sum over ", weight.columns, " in ", parts, " parts");
  return dot_ref(x, weight, n, 0, weight.columns, parts, order);
}

}  // namespace cajal::cpu
