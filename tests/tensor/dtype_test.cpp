#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace cajal {
namespace {

// The value of a small float by the definition of the format, in double.
double value_of(std::uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1), mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

// To nearest, ties to even, by searching the format's values: the patterns 0, 1, 2, ... of one sign are in ascending order.
std::uint16_t nearest(float f, int exponent_bits, int mantissa_bits) {
  const auto infinity = static_cast<std::uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
  const double x = std::fabs(static_cast<double>(f));
  // One step beyond the largest number stands where infinity is.
  const auto at = [&](int pattern) {
    if (pattern < infinity) return value_of(static_cast<std::uint16_t>(pattern), exponent_bits, mantissa_bits);
    return 2 * std::ldexp(1, (1 << (exponent_bits - 1)) - 1);
  };
  int low = 0, high = infinity;
  while (high - low > 1) (at((low + high) / 2) <= x ? low : high) = (low + high) / 2;
  if (x >= at(high)) low = high;
  int pattern = low;
  if (low < infinity) {
    const double below = x - at(low), above = at(low + 1) - x;
    if (above < below || (above == below && low % 2 == 1)) pattern = low + 1;
  }
  return static_cast<std::uint16_t>(pattern | (std::signbit(f) ? 0x8000 : 0));
}

TEST(F16, WidensEveryPatternExactlyAndNarrowsItBack) {
  for (std::uint32_t b = 0; b < 1u << 16; ++b) {
    const auto bits = static_cast<std::uint16_t>(b);
    const float f = f16_to_float(bits);
    EXPECT_TRUE(same(f, value_of(bits, 5, 10))) << b;
    if (!std::isnan(f)) {
      EXPECT_EQ(float_to_f16(f), bits);
    }
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(f))));
    }
  }
}

TEST(Bf16, WidensEveryPatternExactlyAndNarrowsItBack) {
  for (std::uint32_t b = 0; b < 1u << 16; ++b) {
    const auto bits = static_cast<std::uint16_t>(b);
    const float f = bf16_to_float(bits);
    EXPECT_TRUE(same(f, value_of(bits, 8, 7))) << b;
    if (!std::isnan(f)) {
      EXPECT_EQ(float_to_bf16(f), bits);
    }
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(f))));
    }
  }
}

TEST(Narrowing, RoundsToNearestAndTiesToEven) {
  std::mt19937 random(1);
  const auto check = [](float f) {
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(f))) && std::isnan(bf16_to_float(float_to_bf16(f))));
      return;
    }
    EXPECT_EQ(float_to_f16(f), nearest(f, 5, 10)) << f;
    EXPECT_EQ(float_to_bf16(f), nearest(f, 8, 7)) << f;
  };
  for (int i = 0; i < 200000; ++i) check(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  // Around the values of f16, whose range random patterns seldom meet: the value, ties, and their neighbours.
  for (int i = 0; i < 200000; ++i) {
    const float f = f16_to_float(static_cast<std::uint16_t>(random() & 0xfbffu));
    if (!std::isfinite(f)) continue;
    const auto bits = std::bit_cast<std::uint32_t>(f);
    for (const std::uint32_t low : {0x0fffu, 0x1000u, 0x1001u, 0x0001u, 0x1fffu})
      check(std::bit_cast<float>(bits + low));
  }
  for (const float f :
       {65519.996f, 65520.0f, 65504.0f, 0x1p-24f, 0x1p-25f, 0x1.000002p-25f, 0x1.8p-24f, 3.4028235e38f, 0.0f, -0.0f})
    check(f), check(-f);
}

TEST(DTypes, ReadTheirOwnNames) {
  constexpr std::array<std::size_t, 9> kSizes = {2, 2, 4, 1, 1, 1, 4, 8, 1};
  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    const auto t = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_string(to_string(t)), t);
    EXPECT_EQ(size_of(t), kSizes[i]) << to_string(t);
  }
  for (const char* name : {"", "float32", "F32", "f32 ", "f3"})
    EXPECT_EQ(dtype_from_string(name), std::nullopt) << name;
}

}  // namespace
}  // namespace cajal
