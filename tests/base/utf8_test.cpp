#include "base/utf8.h"

#include <gtest/gtest.h>

#include <vector>

namespace cajal {
namespace {

TEST(Utf8, EveryCodePointSurvivesTheRoundTrip) {
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Step step = decode_utf8(text, 0);
    ASSERT_TRUE(step.valid && step.code_point == c && step.length == text.size()) << static_cast<std::uint32_t>(c);
    ASSERT_TRUE(is_valid_utf8(text)) << static_cast<std::uint32_t>(c);
  }
}

TEST(Utf8, EachMaximalIllFormedPartBecomesOneReplacement) {
  // Unicode 15.0, table 3-11, and the encodings that may not be: overlong, surrogates, beyond U+10FFFF.
  EXPECT_EQ(replace_invalid_utf8("a\xf1\x80\x80\xe1\x80\xc2"
                                 "b\x80"
                                 "c\x80\xbf"
                                 "d"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(replace_invalid_utf8("\xc0\xaf"), "\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xe0\x80\xaf"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xf4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xff"), "\uFFFD");
  EXPECT_EQ(replace_invalid_utf8(""), "");
}

TEST(Utf8, WhatIsIllFormedIsNotValid) {
  for (const char* bad :
       {"\x80", "\xc2", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80"})
    EXPECT_FALSE(is_valid_utf8(bad)) << bad;
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8(std::string_view("\0\x7f", 2)));
}

TEST(Utf8, AnEndThatMoreBytesCouldCompleteIsHeldBack) {
  const std::string text = "aé字😀";
  std::vector<std::size_t> suffixes;
  for (std::size_t n = 0; n <= text.size(); ++n) suffixes.push_back(incomplete_utf8_suffix(text.substr(0, n)));
  EXPECT_EQ(suffixes, (std::vector<std::size_t>{0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0}));
}

TEST(Utf8, AnEndThatNothingCompletesIsNotHeldBack) {
  for (const char* end : {"a\x80", "a\xff", "\xe0\x80", "\xed\xa0", "\xf4\x90", "\xc0", "\xe5\xad\x97\x80"})
    EXPECT_EQ(incomplete_utf8_suffix(end), 0u) << end;
}

}  // namespace
}  // namespace cajal
