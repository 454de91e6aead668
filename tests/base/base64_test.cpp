#include "base/base64.h"

#include <gtest/gtest.h>

#include <string_view>

namespace cajal {
namespace {

std::string encoded(std::string_view text) { return to_base64(std::as_bytes(std::span(text))); }

TEST(Base64, GivesTheVectorsOfTheStandard) {
  EXPECT_EQ(encoded(""), "");
  EXPECT_EQ(encoded("f"), "Zg==");
  EXPECT_EQ(encoded("fo"), "Zm8=");
  EXPECT_EQ(encoded("foo"), "Zm9v");
  EXPECT_EQ(encoded("foob"), "Zm9vYg==");
  EXPECT_EQ(encoded("fooba"), "Zm9vYmE=");
  EXPECT_EQ(encoded("foobar"), "Zm9vYmFy");
}

TEST(Base64, WritesBytesOfAllValues) {
  EXPECT_EQ(encoded("\xff\xfe\xfd"), "//79");
  EXPECT_EQ(encoded(std::string_view("\0\0\x01", 3)), "AAAB");
}

}  // namespace
}  // namespace cajal
