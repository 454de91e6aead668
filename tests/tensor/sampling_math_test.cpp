#include "tensor/sampling_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace cajal {
namespace {

TEST(ExpWeight, IsTheExponentialRoundedToAWholeNumber) {
  EXPECT_EQ(exp_weight(0), std::uint64_t{1} << kWeightBits);
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> exponents(kLeastExponent, 0);
  for (int i = 0; i < 100000; ++i) {
    const double x = exponents(random), expected = std::ldexp(std::exp(x), kWeightBits);
    ASSERT_NEAR(static_cast<double>(exp_weight(x)), expected, 0.5 + expected * 0x1p-40) << x;
  }
}

TEST(ExpWeight, IsNothingFarBelowAndForWhatIsNoNumber) {
  EXPECT_EQ(exp_weight(std::nextafter(kLeastExponent, 0)), 0u);  // so that nothing is lost below
  for (const double x : {-32.0, -33.0, -1e300, -HUGE_VAL, std::nan("")}) EXPECT_EQ(exp_weight(x), 0u) << x;
}

TEST(ExpWeight, NeverGrowsAsTheExponentFalls) {
  std::uint64_t last = exp_weight(0);
  for (int i = 1; i < 33000; ++i) {
    const std::uint64_t weight = exp_weight(-i / 1000.0);
    ASSERT_LE(weight, last) << i;
    last = weight;
  }
}

TEST(NaturalLog, IsWithinAFewUnitsOfTheLastPlace) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> exponents(-60, 60);
  for (int i = 0; i < 100000; ++i) {
    const double x = std::exp2(exponents(random)), expected = std::log(x);
    ASSERT_NEAR(natural_log(x), expected, 4 * 0x1p-52 * std::abs(expected)) << x;
  }
  for (const double x : {1.0, std::nextafter(1.0, 0), std::nextafter(1.0, 2), 1.4142135623730951, 2.0, 0.5})
    ASSERT_NEAR(natural_log(x), std::log(x), 4 * 0x1p-52 * std::abs(std::log(x))) << x;
}

TEST(Gumbel, IsFiniteForTheLeastAndTheLargestBits) {
  EXPECT_NEAR(gumbel_of(0), -std::log(-std::log(0x1p-33)), 1e-14);
  EXPECT_NEAR(gumbel_of(~0u), -std::log(-std::log(1 - 0x1p-33)), 1e-5);
  EXPECT_LT(gumbel_of(~0u), 22.9);
}

}  // namespace
}  // namespace cajal
