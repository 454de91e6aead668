#include "tensor/quantized.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/error.h"
#include "tensor/pack.h"

namespace cajal {
namespace {

std::vector<float> normal_numbers(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  return v;
}

TensorType type_of(std::int64_t n, std::int64_t k, const Quantized& q) { return {DType::f32, {n, k}, q}; }

std::vector<float> there_and_back(const TensorType& type, const std::vector<float>& rows) {
  std::vector<std::byte> stored(type.bytes(), std::byte{0xee});
  const std::int64_t n = type.shape.elements() / type.shape[-1];
  pack_rows(type, 0, n, reinterpret_cast<const std::byte*>(rows.data()), stored.data());
  std::vector<float> back(rows.size());
  unpack_rows(type, 0, n, stored.data(), reinterpret_cast<std::byte*>(back.data()));
  return back;
}

Quantized storage(int bits, int group, int tile) {
  return {.bits = bits, .group_size = group, .scale_dtype = DType::f16, .zero_points = false, .tile_rows = tile};
}

TEST(Quantized, ComesBackWithinHalfAStepOfItsGroup) {
  for (const int bits : {8, 4})
    for (const int group : {32, 128})
      for (const int tile : {1, 32})
        for (const std::int64_t n : {1, 31, 32, 70})
          for (const std::int64_t k : {1, 31, 128, 200}) {
            const TensorType type = type_of(n, k, storage(bits, group, tile));
            const std::vector<float> rows = normal_numbers(static_cast<std::size_t>(n * k), 1);
            const std::vector<float> back = there_and_back(type, rows);
            for (std::int64_t i = 0; i < n * k; ++i) {
              const std::int64_t row = i / k, first = i % k / group * group,
                                 end = std::min<std::int64_t>(first + group, k);
              float largest = 0;
              for (std::int64_t j = first; j < end; ++j)
                largest = std::max(largest, std::fabs(rows[static_cast<std::size_t>(row * k + j)]));
              // Scales are rounded to f16; in 4 bits the number opposite the largest may be a step beyond 7.
              const float step = bits == 8 ? largest / 127 : largest / 8;
              const auto at = static_cast<std::size_t>(i);
              ASSERT_LE(std::fabs(back[at] - rows[at]), step * (bits == 8 ? 0.57f : 1.25f))
                  << to_string(type) << ' ' << i;
            }
          }
}

double relative_error(int bits, int group) {
  const TensorType type = type_of(64, 512, storage(bits, group, 32));
  const std::vector<float> rows = normal_numbers(64 * 512, 7), back = there_and_back(type, rows);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    error += std::pow(static_cast<double>(back[i] - rows[i]), 2);
    size += std::pow(static_cast<double>(rows[i]), 2);
  }
  return std::sqrt(error / size);
}

TEST(Quantized, ErrsLessWithMoreBitsAndSmallerGroups) {
  EXPECT_LT(relative_error(8, 32), 0.006);
  EXPECT_LT(relative_error(8, 128), 0.008);
  EXPECT_LT(relative_error(4, 32), 0.085);
  EXPECT_LT(relative_error(4, 128), 0.115);
  EXPECT_LT(relative_error(4, 32), relative_error(4, 128));
}

TEST(Quantized, WhatIsAMultipleOfItsScaleIsExact) {
  for (const int bits : {8, 4}) {
    const int lowest = bits == 8 ? -127 : -8, highest = bits == 8 ? 127 : 7;
    std::vector<float> rows;
    for (int i = 0; i < 128; ++i) rows.push_back(0.25f * static_cast<float>(lowest + i * 37 % (highest - lowest + 1)));
    rows[0] = 0.25f * static_cast<float>(lowest);
    EXPECT_EQ(there_and_back(type_of(1, 128, storage(bits, 128, 32)), rows), rows) << bits;
  }
}

TEST(Quantized, ZerosStayZerosAndMatricesDoNotTouch) {
  const TensorType type{DType::f32, {3, 33, 40}, storage(4, 32, 32)};
  std::vector<float> rows(3 * 33 * 40, 0.0f);
  EXPECT_EQ(there_and_back(type, rows), rows);
  const std::vector<float> all = normal_numbers(rows.size(), 3), one(all.begin() + 33 * 40, all.begin() + 2 * 33 * 40);
  const std::vector<float> back = there_and_back(type, all);
  EXPECT_EQ(there_and_back({DType::f32, {33, 40}, type.storage}, one),
            std::vector<float>(back.begin() + 33 * 40, back.begin() + 2 * 33 * 40));
}

TEST(Quantized, PaddingIsWrittenWithTheLastRow) {
  const TensorType type = type_of(33, 40, storage(8, 32, 32));
  const QuantizedLayout layout{*type.quantized(), 33, 40};
  ASSERT_EQ(static_cast<std::size_t>(layout.matrix_bytes()), type.bytes());
  const std::vector<float> rows = normal_numbers(33 * 40, 5);
  std::vector<std::byte> stored(type.bytes(), std::byte{0xee});
  pack_rows(type, 0, 33, reinterpret_cast<const std::byte*>(rows.data()), stored.data());
  for (std::int64_t n = 33; n < 64; ++n) EXPECT_EQ(quantized_scale(layout, stored.data(), n, 1), 0.0f);
  for (std::int64_t k = 8; k < 32; ++k) EXPECT_EQ(quantized_integer(layout, stored.data(), 4, 1, k), 0);
}

TEST(Quantized, RefusesWhatScalesCannotSay) {
  const TensorType type = type_of(1, 32, storage(8, 32, 1));
  for (const float bad : {INFINITY, -INFINITY, NAN, 3e38f}) {
    std::vector<float> rows(32, 1.0f);
    rows[17] = bad;
    EXPECT_THROW(there_and_back(type, rows), Error) << bad;
  }
}

TEST(Quantized, RefusesFormatsThatNothingReads) {
  for (const Quantized& q : {Quantized{3, 32, DType::f16}, Quantized{8, 32, DType::f32},
                             Quantized{8, 32, DType::f16, true}, Quantized{8, 256, DType::f16}})
    EXPECT_THROW(there_and_back(type_of(1, 256, q), std::vector<float>(256)), Error);
  EXPECT_THROW(there_and_back({DType::f32, {32}, Quantized{}}, std::vector<float>(32)), Error);
}

}  // namespace
}  // namespace cajal
