#include "base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cajal {
namespace {

using testing::HasSubstr;

TEST(Error, JoinsItsPartsAndKeepsTheRemedyApart) {
  try {
    fail(ErrorCode::unsupported, "a is ", 3, ", expected ", 4, remedy("run ", "b"));
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::unsupported);
    EXPECT_EQ(e.message(), "a is 3, expected 4");
    EXPECT_EQ(e.remedy(), "run b");
    EXPECT_STREQ(e.what(), "a is 3, expected 4 — run b");
    return;
  }
  FAIL() << "nothing was thrown";
}

TEST(Error, SaysOnlyTheMessageWithoutARemedy) {
  EXPECT_STREQ(Error(ErrorCode::not_found, "no such file").what(), "no such file");
}

TEST(Error, ContextStandsInFrontAndTheRemedyStaysLast) {
  try {
    with_context("model", [] {
      return with_context("layer 3",
                          [] { fail(ErrorCode::data_loss, "weight is missing", remedy("download it again")); });
    });
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::data_loss);
    EXPECT_STREQ(e.what(), "model: layer 3: weight is missing — download it again");
    return;
  }
  FAIL() << "nothing was thrown";
}

TEST(Error, ContextReturnsWhatTheBodyReturns) {
  int x = 1;
  int& same = with_context("c", [&]() -> int& { return x; });
  EXPECT_EQ(&same, &x);
}

TEST(Error, ContextLeavesOtherExceptionsAlone) {
  EXPECT_THROW(with_context("c", [] { throw std::bad_alloc(); }), std::bad_alloc);
}

TEST(CheckDeathTest, NamesTheConditionAndTheReason) {
  CAJAL_CHECK(true, "never said");
  EXPECT_DEATH(CAJAL_CHECK(1 > 2, "one is ", 1), "error_test.cpp:.*CAJAL_CHECK\\(1 > 2\\) failed: one is 1");
  EXPECT_DEATH(CAJAL_CHECK(false), "CAJAL_CHECK\\(false\\) failed\n");
}

}  // namespace
}  // namespace cajal
