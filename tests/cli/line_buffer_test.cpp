#include "cli/line_buffer.h"

#include <gmock/gmock.h>

#include "base/utf8.h"

namespace cajal::cli {
namespace {

using testing::ElementsAre;

std::string typed(std::string_view bytes) {
  KeyDecoder decoder;
  LineBuffer line;
  for (const KeyPress& key : decoder.push(bytes)) line.press(key);
  return line.text().substr(0, line.cursor()) + "|" + line.text().substr(line.cursor());
}

TEST(LineBuffer, EditsWhereTheCursorStands) {
  EXPECT_EQ(typed("abc"), "abc|");
  EXPECT_EQ(typed("abc\x1b[D\x1b[DX"), "aX|bc");
  EXPECT_EQ(typed("abc\x7f\b"), "a|");
  EXPECT_EQ(typed("abc\x01\x1b[3~\x05"
                  "d"),
            "bcd|");
  EXPECT_EQ(typed("one two  \x17"), "one |");
  EXPECT_EQ(typed("one two\x1b[1;5D\x0b"), "one |");
  EXPECT_EQ(typed("one two\x1b[1;5D\x15"), "|two");
  EXPECT_EQ(typed("one two\x01\x1b"
                  "f"),
            "one| two");
  EXPECT_EQ(typed("\x7f\x1b[3~\x1b[C\x1b[D\x17"), "|") << "nothing to erase, nowhere to go";
}

TEST(LineBuffer, NeverTearsACharacterApart) {
  EXPECT_EQ(typed("神经\x7f"), "神|");
  EXPECT_EQ(typed("神经\x1b[D\x1b[3~"), "神|");
  EXPECT_EQ(typed("e\xcc\x81x\x1b[D\x7f"), "|x") << "a letter goes with its accent";
  EXPECT_EQ(typed("a👍🏽\x7f"), "a|") << "and an emoji with its colour";
}

TEST(LineBuffer, StaysUtf8WhateverKeysCome) {
  std::string keys;
  for (std::uint32_t n = 1; keys.size() < 20000; n = n * 1664525 + 1013904223) keys += static_cast<char>(n >> 24);
  KeyDecoder decoder;
  LineBuffer line;
  for (const char byte : keys)
    for (const KeyPress& key : decoder.push({&byte, 1})) {
      line.press(key);
      ASSERT_TRUE(is_valid_utf8(line.text()));
      ASSERT_TRUE(is_valid_utf8(std::string_view(line.text()).substr(0, line.cursor())));
    }
}

TEST(KeyDecoder, TakesKeysThatComeInPieces) {
  const std::string bytes = "a神\x1b[1;5C\x1bOH\x1b[99~\x1b[200~\r";
  KeyDecoder whole, piecewise;
  std::vector<KeyPress> keys;
  for (const char byte : bytes)
    for (KeyPress& key : piecewise.push({&byte, 1})) keys.push_back(std::move(key));
  EXPECT_THAT(keys, ElementsAre(KeyPress{Key::text, "a"}, KeyPress{Key::text, "神"}, KeyPress{Key::word_right, ""},
                                KeyPress{Key::home, ""}, KeyPress{Key::enter, ""}));
  EXPECT_THAT(whole.push(bytes), ElementsAre(KeyPress{Key::text, "a神"}, KeyPress{Key::word_right, ""},
                                             KeyPress{Key::home, ""}, KeyPress{Key::enter, ""}));
}

TEST(ScreenPosition, IsWhereATerminalBreaksLines) {
  const auto at = [](std::string_view text, int width) {
    const ScreenPosition p = position_after(text, width);
    return std::pair(p.row, p.column);
  };
  EXPECT_EQ(at("", 10), std::pair(0, 0));
  EXPECT_EQ(at("123456789", 10), std::pair(0, 9));
  EXPECT_EQ(at("1234567890", 10), std::pair(1, 0));
  EXPECT_EQ(at("123456789神", 10), std::pair(1, 2)) << "a wide character does not fit into the last column";
  EXPECT_EQ(at("12345678神", 10), std::pair(1, 0));
  EXPECT_EQ(at("e\xcc\x81", 10), std::pair(0, 1));
}

}  // namespace
}  // namespace cajal::cli
