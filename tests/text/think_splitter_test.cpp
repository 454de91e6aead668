#include "text/think_splitter.h"

#include <gtest/gtest.h>

namespace cajal {
namespace {

// In pieces of every size.
void expect_split(bool inside, const std::string& text, const std::string& thinking, const std::string& answer) {
  for (std::size_t size = 1; size <= text.size() + 1; ++size) {
    ThinkSplitter splitter(inside);
    SplitText all;
    const auto add = [&](const SplitText& part) {
      EXPECT_TRUE(part.thinking.empty() || all.answer.empty()) << "thinking comes first";
      all.thinking += part.thinking;
      all.answer += part.answer;
    };
    for (std::size_t at = 0; at < text.size(); at += size) add(splitter.push(text.substr(at, size)));
    add(splitter.flush());
    EXPECT_EQ(all.thinking, thinking) << text << " in pieces of " << size;
    EXPECT_EQ(all.answer, answer) << text << " in pieces of " << size;
  }
}

TEST(ThinkSplitter, TellsThinkingFromTheAnswer) {
  expect_split(false, "<think>\nhm\n\nwell\n</think>\n\nYes.\n", "hm\n\nwell", "Yes.\n");
  expect_split(false, "\n<think>a</think>b", "a", "b");
  expect_split(false, "<think>\n\n</think>\n\nYes", "", "Yes");
  expect_split(true, "hm\n</think>\n\nYes", "hm", "Yes");
  expect_split(true, "\n\nhm </thin </think>Yes </think>", "hm </thin ", "Yes </think>");
}

TEST(ThinkSplitter, LeavesOtherTextAsItIs) {
  for (const char* text : {"", "Yes", " \n Yes\n", "<", "<thin", "<thinks", "a <think>b</think>", "\n", "</think>"})
    expect_split(false, text, "", text);
}

TEST(ThinkSplitter, EndsAnywhere) {
  expect_split(false, "<think>", "", "");
  expect_split(false, "<think>a</thi", "a</thi", "");
  expect_split(true, "a</think>", "a", "");
}

}  // namespace
}  // namespace cajal
