#include "tensor/quantized.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "base/error.h"
#include "tensor/pack.h"

namespace cajal {
namespace {

using Bytes = std::vector<std::byte>;

std::vector<float> normal_numbers(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  return v;
}

TensorType type_of(std::int64_t n, std::int64_t k, const Quantized& q) { return {DType::f32, {n, k}, q}; }

Quantized storage(int bits, int group, int tile) { return {.bits = bits, .group_size = group, .tile_rows = tile}; }

Bytes pack(const TensorType& type, const std::vector<float>& rows, const float* largest = nullptr) {
  Bytes stored(type.bytes(), std::byte{0xee});
  const std::int64_t n = type.shape.elements() / type.shape[-1];
  pack_rows(type, 0, n, reinterpret_cast<const std::byte*>(rows.data()), stored.data(), largest);
  return stored;
}

std::vector<float> there_and_back(const TensorType& type, const std::vector<float>& rows) {
  const Bytes stored = pack(type, rows);
  std::vector<float> back(rows.size());
  unpack_rows(type, 0, type.shape.elements() / type.shape[-1], stored.data(),
              reinterpret_cast<std::byte*>(back.data()));
  return back;
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
              // Scales are up to two of their own steps too large; in 4 bits the number opposite the largest may be a
              // step and a half beyond 7.
              const float step = bits == 8 ? largest / 127 : largest / 8;
              const auto at = static_cast<std::size_t>(i);
              ASSERT_LE(std::fabs(back[at] - rows[at]), step * (bits == 8 ? 0.57f : 1.6f))
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
  for (std::int64_t n = 33; n < 64; ++n) {
    EXPECT_EQ(quantized_row_scale(layout, stored.data(), n), 1.0f);
    for (std::int64_t g = 0; g < 2; ++g) EXPECT_EQ(quantized_scale(layout, stored.data(), n, g), 1);
    for (std::int64_t k = 0; k < 64; ++k) EXPECT_EQ(quantized_integer(layout, stored.data(), n, k / 32, k % 32), 0);
  }
  for (std::int64_t k = 8; k < 32; ++k) EXPECT_EQ(quantized_integer(layout, stored.data(), 4, 1, k), 0);
}

TEST(Quantized, RefusesWhatIsNotFiniteOrTooLarge) {
  const TensorType type = type_of(1, 70, storage(8, 32, 1));
  for (const float bad : {INFINITY, -INFINITY, NAN, 3e38f, -kTooLargeWeight}) {
    std::vector<float> rows(70, 1.0f);
    rows[47] = bad;
    try {
      pack(type, rows);
      ADD_FAILURE() << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::data_loss);
      EXPECT_NE(e.message().find("row 0 from column 32 on"), std::string::npos) << e.message();
    }
  }
  const float large = std::nextafter(kTooLargeWeight, 0.0f);
  EXPECT_NEAR(there_and_back(type, std::vector<float>(70, -large))[3] / large, -1, 0.01);
}

// Every row and group of this matrix in this storage has scales that kernels can do with, whatever the weights.
TEST(Quantized, ScalesAreNeverZeroAndRowsKeepToTheirExponents) {
  std::mt19937 random(3);
  for (const int bits : {8, 4})
    for (const int group : {32, 128}) {
      const TensorType type = type_of(64, 300, storage(bits, group, 32));
      const QuantizedLayout layout{*type.quantized(), 64, 300};
      std::vector<float> rows = normal_numbers(64 * 300, 11);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        rows[i] = std::ldexp(rows[i], static_cast<int>(i / 300) * 3 - 140);  // rows of about 2^-146 to 2^25
        if (random() % 5 == 0) rows[i] = std::ldexp(rows[i], -static_cast<int>(random() % 30));
        if (i / 300 > 55) rows[i] = 0.0f;
      }
      const Bytes stored = pack(type, rows);
      for (std::int64_t n = 0; n < 64; ++n) {
        EXPECT_GE(quantized_row_scale(layout, stored.data(), n), std::ldexp(1.0f, kLeastRowExponent));
        EXPECT_LE(quantized_row_scale(layout, stored.data(), n), kTooLargeWeight);
        for (std::int64_t g = 0; g < layout.groups(); ++g) {
          const int u = quantized_scale(layout, stored.data(), n, g);
          EXPECT_GE(bits == 8 ? u : std::abs(u), 1);
          EXPECT_LE(std::abs(u), kMostScale);
          for (std::int64_t k = 0; k < group; ++k) {
            const int q = quantized_integer(layout, stored.data(), n, g, k);
            ASSERT_LE(q, bits == 8 ? 127 : 7);
            ASSERT_GE(q, bits == 8 ? -127 : -8);
          }
        }
      }
    }
}

// What an integer stands for times any power of two, as long as rows do not count as zeros.
TEST(Quantized, WeightsTimesAPowerOfTwoComeBackTimesIt) {
  for (const int bits : {8, 4}) {
    const TensorType type = type_of(3, 200, storage(bits, 32, 32));
    const std::vector<float> rows = normal_numbers(600, 5), back = there_and_back(type, rows);
    for (const int power : {-30, -1, 4, 30}) {
      std::vector<float> scaled = rows, want = back;
      for (float& v : scaled) v = std::ldexp(v, power);
      for (float& v : want) v = std::ldexp(v, power);
      EXPECT_EQ(there_and_back(type, scaled), want) << power;
    }
  }
}

// A rank that holds some groups of a row has their bits of the whole row, if it is told the largest magnitude of that.
TEST(Quantized, PartsOfRowsAreRoundedAsTheWhole) {
  constexpr std::int64_t kRows = 40, kColumns = 256, kPart = 64;
  for (const int bits : {8, 4}) {
    std::vector<float> rows = normal_numbers(kRows * kColumns, 9), largest;
    for (std::int64_t n = 0; n < kRows; ++n) {
      rows[static_cast<std::size_t>(n * kColumns + 200)] *= static_cast<float>(n);
      largest.push_back(largest_of_row(
          DType::f32, reinterpret_cast<const std::byte*>(&rows[static_cast<std::size_t>(n * kColumns)]), kColumns));
    }
    const std::vector<float> back = there_and_back(type_of(kRows, kColumns, storage(bits, 32, 32)), rows);
    const TensorType type = type_of(kRows, kPart, storage(bits, 32, 32));
    for (std::int64_t first = 0; first < kColumns; first += kPart) {
      std::vector<float> part, want, got(kRows * kPart);
      for (std::int64_t n = 0; n < kRows; ++n)
        for (std::int64_t k = first; k < first + kPart; ++k) {
          part.push_back(rows[static_cast<std::size_t>(n * kColumns + k)]);
          want.push_back(back[static_cast<std::size_t>(n * kColumns + k)]);
        }
      const Bytes stored = pack(type, part, largest.data());
      unpack_rows(type, 0, kRows, stored.data(), reinterpret_cast<std::byte*>(got.data()));
      EXPECT_EQ(got, want) << bits << ' ' << first;
    }
  }
}

// The mean square of a group's error with one scale of 16 bits, as it was once: the largest magnitude / 127, or of least squared
// error with the largest magnitude at -8.
double error_with_f16_scales(std::span<const float> group, int bits) {
  const auto largest =
      *std::max_element(group.begin(), group.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  const auto rounded = [&](float w, float scale) {
    return std::clamp(std::nearbyint(w / scale), bits == 8 ? -127.0f : -8.0f, bits == 8 ? 127.0f : 7.0f);
  };
  float scale = f16_to_float(float_to_f16(bits == 8 ? std::fabs(largest) / 127 : largest / -8));
  if (bits == 4) {
    float products = 0, squares = 0;
    for (const float w : group) products += w * rounded(w, scale), squares += std::pow(rounded(w, scale), 2.0f);
    scale = f16_to_float(float_to_f16(products / squares));
  }
  double error = 0;
  for (const float w : group) error += std::pow(static_cast<double>(w - rounded(w, scale) * scale), 2);
  return error;
}

TEST(Quantized, ErrsNoMoreThanWithScalesOf16Bits) {
  for (const int bits : {8, 4})
    for (const int group : {32, 128})
      for (const float outlier : {1.0f, 8.0f}) {
        constexpr std::int64_t kRows = 64, kColumns = 1024;
        std::vector<float> rows = normal_numbers(kRows * kColumns, 13);
        for (std::size_t i = 0; i < rows.size(); ++i)
          if (i % kColumns < 128) rows[i] *= outlier;  // groups of a row that are larger than the others
        const std::vector<float> back = there_and_back(type_of(kRows, kColumns, storage(bits, group, 32)), rows);
        double error = 0, before = 0;
        for (std::size_t i = 0; i < rows.size(); ++i) error += std::pow(static_cast<double>(rows[i] - back[i]), 2);
        const auto size = static_cast<std::size_t>(group);
        for (std::size_t i = 0; i < rows.size(); i += size)
          before += error_with_f16_scales(std::span(rows).subspan(i, size), bits);
        EXPECT_LT(error, before) << bits << " bits by " << group << ", outliers of " << outlier;
        EXPECT_GT(error, before * 0.85);
      }
}

TEST(Quantized, RefusesFormatsThatNothingReads) {
  for (const Quantized& q : {Quantized{3, 32}, Quantized{8, 32, DType::f32}, Quantized{8, 32, DType::f16},
                             Quantized{8, 32, DType::i8, true}, Quantized{8, 256}})
    EXPECT_THROW(there_and_back(type_of(1, 256, q), std::vector<float>(256)), Error);
  EXPECT_THROW(there_and_back({DType::f32, {32}, Quantized{}}, std::vector<float>(32)), Error);
}

}  // namespace
}  // namespace cajal
