#include "base/checked.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace cajal {
namespace {

using testing::HasSubstr;

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::data_loss);
    return e.what();
  }
  return "no error";
}

constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
constexpr auto kMin = std::numeric_limits<std::int64_t>::min();

TEST(Checked, AddsWhatFits) {
  EXPECT_EQ(checked_add<std::uint64_t>(kMax - 1, 1, "size"), kMax);
  EXPECT_EQ(checked_add<std::int64_t>(kMin, 5, "size"), kMin + 5);
}

TEST(Checked, AnOverflowNamesWhatAndBothNumbers) {
  EXPECT_EQ(error_of([] { checked_add<std::uint64_t>(kMax, 1, "a.bin"); }),
            "a.bin: 18446744073709551615 + 1 overflows");
  EXPECT_EQ(error_of([] { checked_mul<std::int64_t>(kMin, -1, "shape"); }),
            "shape: -9223372036854775808 x -1 overflows");
  EXPECT_THAT(error_of([] { checked_mul<std::uint32_t>(65536, 65536, "s"); }), HasSubstr("overflows"));
}

TEST(Checked, MultipliesWhatFits) {
  EXPECT_EQ(checked_mul<std::uint32_t>(65535, 65537, "s"), 0xffffffffu);
  EXPECT_EQ(checked_mul<std::uint64_t>(0, kMax, "s"), 0u);
}

TEST(Checked, CastsWhatTheOtherTypeHolds) {
  EXPECT_EQ(checked_cast<std::uint8_t>(255, "x"), 255);
  EXPECT_EQ(checked_cast<std::int64_t>(std::uint64_t{7}, "x"), 7);
  EXPECT_EQ(error_of([] { checked_cast<std::uint8_t>(256, "x"); }), "x: 256 is outside 0..255");
  EXPECT_EQ(error_of([] { checked_cast<std::uint64_t>(-1, "x"); }), "x: -1 is outside 0..18446744073709551615");
  EXPECT_THAT(error_of([] { checked_cast<std::int64_t>(kMax, "x"); }), HasSubstr("outside"));
}

TEST(Checked, RoundsUp) {
  EXPECT_EQ(ceil_div(0, 4), 0);
  EXPECT_EQ(ceil_div(1, 4), 1);
  EXPECT_EQ(ceil_div(8, 4), 2);
  EXPECT_EQ(round_up(9, 4), 12);
  EXPECT_EQ(round_up(12, 4), 12);
}

}  // namespace
}  // namespace cajal
