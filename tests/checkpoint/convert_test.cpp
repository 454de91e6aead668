#include "checkpoint/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <random>
#include <vector>

namespace cajal {
namespace {

template <class To, class From>
std::vector<To> converted(DType from, const std::vector<From>& in, DType to) {
  std::vector<To> out(in.size());
  convert_elements(from, reinterpret_cast<const std::byte*>(in.data()), to, reinterpret_cast<std::byte*>(out.data()),
                   static_cast<std::int64_t>(in.size()));
  return out;
}

std::vector<std::uint16_t> all_16_bits() {
  std::vector<std::uint16_t> values(65536);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint16_t>(i);
  return values;
}

std::vector<float> telling_floats() {
  std::vector<std::uint32_t> bits;
  for (std::uint32_t exponent = 0; exponent < 256; ++exponent)  // every exponent, around every rounding boundary
    for (const std::uint32_t mantissa : {0u, 1u, 0xfffu, 0x1000u, 0x1001u, 0x1fffu, 0x2000u, 0x3000u, 0x7fffu, 0x8000u,
                                         0x8001u, 0xffffu, 0x18000u, 0x400000u, 0x7fefffu, 0x7ff000u, 0x7fffffu})
      for (const std::uint32_t sign : {0u, 1u}) bits.push_back(sign << 31 | exponent << 23 | mantissa);
  std::mt19937 random(7);
  for (int i = 0; i < 200'000; ++i) bits.push_back(static_cast<std::uint32_t>(random()));
  for (int i = 0; i < 200'000; ++i) {  // where f16 lives
    const auto exponent = static_cast<std::uint32_t>(96u + random() % 50u);
    bits.push_back((static_cast<std::uint32_t>(random()) & 0x807fffffu) | exponent << 23);
  }
  std::vector<float> floats(bits.size());
  std::memcpy(floats.data(), bits.data(), bits.size() * 4);
  return floats;
}

TEST(Convert, EveryHalfBecomesTheFloatThatTheScalarSays) {
  const auto in = all_16_bits();
  const auto from_bf16 = converted<std::uint32_t>(DType::bf16, in, DType::f32);
  const auto from_f16 = converted<std::uint32_t>(DType::f16, in, DType::f32);
  for (std::size_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(from_bf16[i], std::bit_cast<std::uint32_t>(bf16_to_float(in[i]))) << i;
    ASSERT_EQ(from_f16[i], std::bit_cast<std::uint32_t>(f16_to_float(in[i]))) << i;
  }
}

TEST(Convert, FloatsRoundAsTheScalarSays) {
  const auto in = telling_floats();
  const auto bf16 = converted<std::uint16_t>(DType::f32, in, DType::bf16);
  const auto f16 = converted<std::uint16_t>(DType::f32, in, DType::f16);
  for (std::size_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(bf16[i], float_to_bf16(in[i])) << std::bit_cast<std::uint32_t>(in[i]);
    ASSERT_EQ(f16[i], float_to_f16(in[i])) << std::bit_cast<std::uint32_t>(in[i]);
  }
}

TEST(Convert, BetweenTheHalvesGoesThroughFloat) {
  const auto in = all_16_bits();
  const auto to_bf16 = converted<std::uint16_t>(DType::f16, in, DType::bf16);
  const auto to_f16 = converted<std::uint16_t>(DType::bf16, in, DType::f16);
  for (std::size_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(to_bf16[i], float_to_bf16(f16_to_float(in[i]))) << i;
    ASSERT_EQ(to_f16[i], float_to_f16(bf16_to_float(in[i]))) << i;
  }
}

TEST(Convert, AnyLengthAtAnyAddress) {
  const auto in = telling_floats();
  for (const std::int64_t count : {0, 1, 7, 255, 256, 257, 1000})
    for (const std::size_t shift : {0u, 1u, 3u}) {
      const auto n = static_cast<std::size_t>(count);
      std::vector<std::byte> source(shift + n * 4), target(shift + n * 2 + 1, std::byte{0x5a});
      if (n) std::memcpy(source.data() + shift, in.data() + 5000, n * 4);
      convert_elements(DType::f32, source.data() + shift, DType::bf16, target.data() + shift, count);
      for (std::size_t i = 0; i < n; ++i) {
        std::uint16_t bits;
        std::memcpy(&bits, target.data() + shift + i * 2, 2);
        ASSERT_EQ(bits, float_to_bf16(in[5000 + i]));
      }
      EXPECT_EQ(target.back(), std::byte{0x5a});
    }
}

}  // namespace
}  // namespace cajal
