#pragma once
// A KV cache in 8 bits, as Quantized{8, head_dim, scales f32} storage means it here: each key and each value of a head is
// integers -127..127 times one scale. Of a block and a head the scales of all positions come first, f32[block_size], and
// then the integers in tiles of `tile_rows` positions by 4 elements; one row of a tile is plain.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "backends/cpu/kernels/elementwise_scalar.h"
#include "tensor/tensor.h"

namespace cajal::cpu {

struct Int8CacheLayout {
  std::int64_t num_kv_heads, head_dim, block_size;
  Packed packed;  // of the integers

  std::int64_t matrix_bytes() const { return block_size * (head_dim + std::int64_t{sizeof(float)}); }
  // All in bytes. A block and a head, from the beginning of the cache; what belongs to a position, from there.
  std::int64_t matrix(std::int64_t block, std::int64_t kv_head) const {
    return (block * num_kv_heads + kv_head) * matrix_bytes();
  }
  static std::int64_t scale(std::int64_t position) { return position * std::int64_t{sizeof(float)}; }
  std::int64_t integers() const { return scale(block_size); }
  std::int64_t integer(std::int64_t position, std::int64_t k) const {
    return integers() + packed_index(packed, head_dim, position, k);
  }
};

// Magnitudes below this round to zeros: 127 / it still is a number.
constexpr float kSmallestInt8Magnitude = 0x1p-100f;

// How numbers of this largest magnitude, given as its bits, are rounded: times `inverse`, to the nearest integer, ties to
// even; an integer then stands for itself times `scale`. An infinity or a NaN makes all of them NaN.
struct Int8Rounding {
  float inverse = 0, scale = 0;
};
inline Int8Rounding int8_rounding(std::uint32_t magnitude_bits) {
  constexpr std::uint32_t kInfinity = 0x7f800000u;
  if (magnitude_bits >= kInfinity) return {0, std::numeric_limits<float>::quiet_NaN()};
  const auto magnitude = std::bit_cast<float>(magnitude_bits);
  if (magnitude < kSmallestInt8Magnitude) return {};
  return {127.0f / magnitude, magnitude / 127.0f};
}

// Rounds x[n] and returns the scale. Integers are zeros where that is none.
template <class T>
float round_to_int8(const typename T::Raw* x, std::int64_t n, std::int8_t* integers) {
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < n; ++i)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(T::load(x[i])) & 0x7fffffffu);
  const Int8Rounding r = int8_rounding(largest);
  for (std::int64_t i = 0; i < n; ++i)
    integers[i] = r.inverse == 0 ? std::int8_t{0} : static_cast<std::int8_t>(std::nearbyint(T::load(x[i]) * r.inverse));
  return r.scale;
}

// Puts a rounded vector into its slot of the cache.
inline void write_int8_slot(const Int8CacheLayout& layout, std::byte* cache, std::int64_t slot, std::int64_t kv_head,
                            const std::int8_t* integers, float scale) {
  const std::int64_t position = slot % layout.block_size;
  std::byte* matrix = cache + layout.matrix(slot / layout.block_size, kv_head);
  __builtin_memcpy(matrix + layout.scale(position), &scale, sizeof scale);
  if (layout.packed.rows == 1) {
    __builtin_memcpy(matrix + layout.integer(position, 0), integers, static_cast<std::size_t>(layout.head_dim));
    return;
  }
  std::byte* to = matrix + layout.integer(position, 0);
  for (std::int64_t k = 0; k < layout.head_dim; k += 4, to += layout.packed.rows * 4)
    __builtin_memcpy(to, integers + k, 4);
}

}  // namespace cajal::cpu
