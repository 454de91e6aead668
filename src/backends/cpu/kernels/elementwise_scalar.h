#pragma once
// What the row-wise ops mean, one row at a time in plain C++. The reference kernels are made of these functions, and so
// are the parts of the fast ones that do not matter for speed.
#include <algorithm>
#include <array>
#include <cmath>

#include "backends/cpu/isa.h"
#include "base/error.h"
#include "tensor/tensor.h"

namespace cajal::cpu {

// The two activation types: how one element lies in memory, and its rounding.
struct Bf16 {
  using Raw = std::uint16_t;
  static float load(Raw raw) { return bf16_to_float(raw); }
  static Raw store(float f) { return float_to_bf16(f); }
  static float round(float f) { return bf16_to_float(float_to_bf16(f)); }
};
struct F32 {
  using Raw = float;
  static float load(Raw raw) { return raw; }
  static Raw store(float f) { return f; }
  static float round(float f) { return f; }
};

constexpr std::int64_t kMaxHeadDim = 512;  // of vectors that lie on the stack

constexpr bool is_activation(DType dtype) { return dtype == DType::bf16 || dtype == DType::f32; }

template <class T>
const typename T::Raw* as(const std::byte* p) {
  return reinterpret_cast<const typename T::Raw*>(p);
}
template <class T>
typename T::Raw* as(std::byte* p) {
  return reinterpret_cast<typename T::Raw*>(p);
}

// body(Bf16{}) or body(F32{}).
template <class Body>
void with_activation(DType dtype, Body&& body) {
  if (dtype == DType::bf16) return body(Bf16{});
  CAJAL_CHECK(dtype == DType::f32, "activations of type ", to_string(dtype));
  body(F32{});
}

// Sums are made in 64 partial sums, term i into number i % 64, and those are added as a tree: an order that vectors of any
// width follow without loss, so all kernels agree in every bit.
constexpr std::int64_t kSumLanes = 64;
using SumLanes = std::array<float, kSumLanes>;

inline float sum_tree(SumLanes partial) {
  for (std::size_t i = 0; i < 16; ++i)
    partial[i] = (partial[i] + partial[i + 16]) + (partial[i + 32] + partial[i + 48]);
  for (std::size_t half = 8; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) partial[i] += partial[i + half];
  return partial[0];
}

template <class T>
float sum_of_squares(const typename T::Raw* x, std::int64_t columns) {
  SumLanes partial{};
  for (std::int64_t i = 0; i < columns; ++i) {
    float& sum = partial[static_cast<std::size_t>(i % kSumLanes)];
    sum = std::fma(T::load(x[i]), T::load(x[i]), sum);
  }
  return sum_tree(partial);
}

inline float norm_factor(float squares, std::int64_t columns, float epsilon) {
  return 1.0f / std::sqrt(squares / static_cast<float>(columns) + epsilon);
}

template <class T>
void rms_norm_row(const typename T::Raw* x, const typename T::Raw* weight, typename T::Raw* y, std::int64_t columns,
                  float epsilon) {
  const float factor = norm_factor(sum_of_squares<T>(x, columns), columns, epsilon);
  for (std::int64_t i = 0; i < columns; ++i) y[i] = T::store(T::round(T::load(x[i]) * factor) * T::load(weight[i]));
}

// table: cosines, then sines, half a head each. y may be x.
template <class T>
void rope_row(const typename T::Raw* x, const typename T::Raw* table, typename T::Raw* y, std::int64_t head_dim) {
  const std::int64_t half = head_dim / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const float x1 = T::load(x[i]), x2 = T::load(x[i + half]);
    const float cosine = T::load(table[i]), sine = T::load(table[i + half]);
    y[i] = T::store(T::round(x1 * cosine) - T::round(x2 * sine));
    y[i + half] = T::store(T::round(x2 * cosine) + T::round(x1 * sine));
  }
}

// Rows of one piece of a parallel loop: enough work that handing it out costs little beside it.
inline std::int64_t row_grain(std::int64_t columns) {
  return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, columns));
}

}  // namespace cajal::cpu
