#include "engine/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace cajal {
namespace {

std::string streamed(const std::vector<std::string>& stop, const std::vector<std::string>& pieces) {
  StopStrings s(stop);
  std::string out;
  for (const auto& piece : pieces) out += s.push(piece);
  EXPECT_EQ(s.stopped(), !s.stopped_by().empty());
  return s.stopped() ? out + "|" : out + s.flush();
}

TEST(StopStrings, CutsBeforeAStopThatCrossesTokens) {
  EXPECT_EQ(streamed({"END"}, {"abc E", "N", "D def"}), "abc |");
  EXPECT_EQ(streamed({"END"}, {"abc E", "N", "X"}), "abc ENX");
  EXPECT_EQ(streamed({"aab"}, {"a", "a", "a", "b"}), "a|");
}

TEST(StopStrings, TheOneThatEndsFirstCounts) {
  EXPECT_EQ(streamed({"abcd", "bc"}, {"xabcd"}), "xa|");
  EXPECT_EQ(streamed({"bc", "abc"}, {"xabc"}), "x|") << "of those that end together, the longest";
  StopStrings s({"abcd", "bc"});
  s.push("xabcd");
  EXPECT_EQ(s.stopped_by(), "bc");
}

TEST(StopStrings, HoldsBackOnlyWhatCouldBeAStop) {
  StopStrings s({"\n\n"});
  EXPECT_EQ(s.push("a\n"), "a");
  EXPECT_EQ(s.push("b"), "\nb");
  EXPECT_EQ(s.flush(), "");
}

TEST(StopStrings, NoneIsNothingHeldBack) { EXPECT_EQ(streamed({}, {"a", "b"}), "ab"); }
TEST(StopStrings, AnEmptyOneIsRefused) { EXPECT_THROW(StopStrings({""}), Error); }

TEST(StopStrings, StreamingEqualsSearchingTheWhole) {
  std::mt19937 rng(3);
  const auto word = [&](std::size_t length) {
    std::string w;
    for (std::size_t i = 0; i < length; ++i) w += static_cast<char>('a' + rng() % 2);
    return w;
  };
  for (int i = 0; i < 3000; ++i) {
    const std::vector<std::string> stop{word(1 + rng() % 5), word(2 + rng() % 4)};
    const std::string text = word(rng() % 30);
    std::size_t first_end = std::string::npos, begin = text.size();
    for (const auto& s : stop)
      if (const auto at = text.find(s);
          at != std::string::npos && (at + s.size() < first_end || (at + s.size() == first_end && at < begin)))
        first_end = at + s.size(), begin = at;
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = 1 + rng() % 4;
      pieces.push_back(text.substr(at, n));
      at += n;
    }
    EXPECT_EQ(streamed(stop, pieces), text.substr(0, begin) + (first_end == std::string::npos ? "" : "|")) << text;
  }
}

}  // namespace
}  // namespace cajal
