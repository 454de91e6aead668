#include "checkpoint/convert.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"

namespace cajal {
namespace {

// Loops over a fixed number of elements, without branches: these the compiler turns into vector instructions at every
// optimisation level that we use. The ends of a tensor go through the same loops with the rest of the block unused.
constexpr std::int64_t kBlock = 256;

using Bits16 = std::uint16_t[kBlock];
using Floats = float[kBlock];

void bf16_to_floats(const Bits16& in, Floats& out) {
  for (std::int64_t i = 0; i < kBlock; ++i) out[i] = bf16_to_float(in[i]);
}

// All ones where a > b, else zero, for values below 2^31: the sign of the difference, spread.
std::uint32_t mask_if_greater(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(b - a) >> 31);
}
std::uint32_t select(std::uint32_t mask, std::uint32_t if_set, std::uint32_t if_clear) {
  return (if_set & mask) | (if_clear & ~mask);
}

void floats_to_bf16(const Floats& in, Bits16& out) {
  for (std::int64_t i = 0; i < kBlock; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(in[i]);
    const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16, nan = bits >> 16 | 0x40u;
    out[i] = static_cast<std::uint16_t>(select(mask_if_greater(bits & 0x7fffffffu, 0x7f800000u), nan, rounded));
  }
}

// f16 has 5 bits of exponent with bias 15, f32 has 8 with bias 127; as integers the two are 13 bits of mantissa apart.
void f16_to_floats(const Bits16& in, Floats& out) {
  for (std::int64_t i = 0; i < kBlock; ++i) {
    const std::uint32_t h = in[i], magnitude = h & 0x7fffu, shifted = magnitude << 13;
    const std::uint32_t normal = shifted + (112u << 23), special = shifted | 0x7f800000u;
    // Zero and subnormals are mantissa x 2^-24: put the mantissa under a 2^-14 and take the 2^-14 away again, exactly.
    const auto subnormal = std::bit_cast<std::uint32_t>(std::bit_cast<float>(shifted + (113u << 23)) - 0x1p-14f);
    const std::uint32_t finite = select(mask_if_greater(0x0400u, magnitude), subnormal, normal);
    const std::uint32_t value = select(mask_if_greater(magnitude, 0x7bffu), special, finite);
    out[i] = std::bit_cast<float>(value | (h & 0x8000u) << 16);
  }
}

void floats_to_f16(const Floats& in, Bits16& out) {
  for (std::int64_t i = 0; i < kBlock; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(in[i]);
    const std::uint32_t magnitude = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    const std::uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
    // Subnormal in f16: add a number whose last place is 2^-24, which rounds for us.
    const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    const std::uint32_t small = select(mask_if_greater(0x38800000u, magnitude), subnormal, normal);
    const std::uint32_t finite = select(mask_if_greater(magnitude, 0x477fefffu), 0x7c00u, small);
    out[i] = static_cast<std::uint16_t>(sign | select(mask_if_greater(magnitude, 0x7f800000u), 0x7e00u, finite));
  }
}

void read_floats(DType from, const std::byte* source, std::int64_t count, Floats& out) {
  const auto n = static_cast<std::size_t>(count);
  if (from == DType::f32) {
    std::memcpy(out, source, n * sizeof(float));
    return;
  }
  Bits16 bits;
  if (count < kBlock) std::memset(bits, 0, sizeof bits);
  std::memcpy(bits, source, n * sizeof(std::uint16_t));
  if (from == DType::bf16)
    bf16_to_floats(bits, out);
  else
    f16_to_floats(bits, out);
}

void write_floats(const Floats& in, DType to, std::byte* target, std::int64_t count) {
  const auto n = static_cast<std::size_t>(count);
  if (to == DType::f32) {
    std::memcpy(target, in, n * sizeof(float));
    return;
  }
  Bits16 bits;
  if (to == DType::bf16)
    floats_to_bf16(in, bits);
  else
    floats_to_f16(in, bits);
  std::memcpy(target, bits, n * sizeof(std::uint16_t));
}

}  // namespace

void convert_elements(DType from, const std::byte* source, DType to, std::byte* target, std::int64_t count) {
  CAJAL_CHECK(is_weight_dtype(from) && is_weight_dtype(to), to_string(from), " to ", to_string(to));
  if (from == to) {
    if (count > 0) std::memcpy(target, source, static_cast<std::size_t>(count) * size_of(from));
    return;
  }
  Floats floats{};
  for (std::int64_t at = 0; at < count; at += kBlock) {
    const std::int64_t n = std::min(kBlock, count - at);
    read_floats(from, source + static_cast<std::size_t>(at) * size_of(from), n, floats);
    write_floats(floats, to, target + static_cast<std::size_t>(at) * size_of(to), n);
  }
}

}  // namespace cajal
