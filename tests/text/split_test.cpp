#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "support.h"
#include "text/qwen_scanner.h"
#include "text/regex.h"
#include "text/unicode.h"

namespace cajal {
namespace {

using testing::HasSubstr;
using Pieces = std::vector<std::string>;

Pieces by_scanner(std::string_view text) {
  Pieces pieces;
  const QwenScanner scanner(text);
  for (std::size_t at = 0, end = 0; at < text.size(); at = end) {
    end = scanner.next(at);
    pieces.emplace_back(text.substr(at, end - at));
  }
  return pieces;
}

Pieces by_pattern(const Regex& regex, std::string_view text) {
  Pieces pieces;
  regex.for_each_match(
      text, [&](std::size_t begin, std::size_t end) { pieces.emplace_back(text.substr(begin, end - begin)); });
  return pieces;
}

std::string one(char32_t c) {
  std::string out;
  append_utf8(out, c);
  return out;
}

// PCRE2's Unicode version is older than the one our tables follow; where they agree, it judges the scanner.
class Agreeing {
 public:
  bool operator()(char32_t c) const {
    return matches(letter_, c, unicode::kLetter) && matches(number_, c, unicode::kNumber) &&
           matches(space_, c, unicode::kSpace);
  }

 private:
  static bool matches(const Regex& regex, char32_t c, std::uint8_t bit) {
    return by_pattern(regex, one(c)).empty() == !(unicode::properties_of(c) & bit);
  }
  Regex letter_{"\\p{L}"}, number_{"\\p{N}"}, space_{"\\s"};
};

TEST(QwenScanner, CutsAsThePatternDoes) {
  const Regex pattern(kQwenPattern);
  const Agreeing agree;
  test::Random random(1);
  for (int round = 0; round < 60000; ++round) {
    std::string text;
    for (std::uint32_t n = 1 + random.below(14); n > 0; --n) {
      const char32_t c = random.code_point();
      if (agree(c)) append_utf8(text, c);
    }
    ASSERT_EQ(by_scanner(text), by_pattern(pattern, text)) << to_json(Json(text));
  }
}

TEST(QwenScanner, CutsEveryShortTextOfTheCharactersThatMatterAsThePatternDoes) {
  const Regex pattern(kQwenPattern);
  const std::u32string_view alphabet = U" \n\t'sRe1.\u017f\u3000";
  for (std::uint32_t code = 0; code < 11u * 11 * 11 * 11 * 11; ++code) {
    std::string text;
    for (std::uint32_t rest = code, i = 0; i < 5; ++i, rest /= 11) append_utf8(text, alphabet[rest % 11]);
    ASSERT_EQ(by_scanner(text), by_pattern(pattern, text)) << to_json(Json(text));
  }
}

TEST(QwenScanner, ClassesDifferFromPcre2OnlyWhereUnicodeHasGrown) {
  const Agreeing agree;
  const Regex unassigned("\\p{Cn}");
  for (char32_t c = 0; c < 0x110000; ++c) {
    if ((c >= 0xd800 && c < 0xe000) || agree(c)) continue;
    EXPECT_TRUE(c == 0x180e || !by_pattern(unassigned, one(c)).empty())
        << "U+" << std::hex << static_cast<std::uint32_t>(c);
  }
}

std::string error_of(std::string_view pattern) {
  try {
    Regex regex(pattern);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Regex, RefusesWhatOnigurumaReadsDifferently) {
  for (const char* pattern : {"[a&&b]", "[a[bc]]", "\\h", "(?m:.)", "(?i-m:.)", "a{,3}", "a{1,2}+", "[]a]", "\\Qa",
                              "(*FAIL)", "[[:alpha:]]", "\\w", "a\\b"})
    EXPECT_THAT(error_of(pattern), HasSubstr("not supported")) << pattern;
  for (const char* pattern : {"(", "[a", "\\p{Nonsense}", "*"})
    EXPECT_THAT(error_of(pattern), HasSubstr("not understood")) << pattern;
  for (const char* pattern : {"a", "[\\[\\]]", "(?i:x)", "(?<=a)b", "a++", "\\p{L}+", "\\x{41}+", "a{1,2}"})
    EXPECT_EQ(error_of(pattern), "no error") << pattern;
}

TEST(Regex, GivesUpOnAPatternThatWouldTakeForever) {
  const Regex regex("(a+)+$");
  EXPECT_THROW(by_pattern(regex, std::string(60, 'a') + "b"), Error);
}

}  // namespace
}  // namespace cajal
