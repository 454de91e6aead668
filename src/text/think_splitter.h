#pragma once
// Tells what a model thinks from what it answers, in text that comes piece by piece.
#include <cstdint>
#include <string>
#include <string_view>

namespace cajal {

struct SplitText {
  std::string thinking, answer;  // in this order
};

// Text that begins with <think>, white space aside, is thinking up to </think>. The tags and the newlines next to them are
// part of neither. Everything else is the answer, unchanged.
class ThinkSplitter {
 public:
  explicit ThinkSplitter(bool inside) : state_(inside ? State::before_thinking : State::undecided) {}

  SplitText push(std::string_view text);  // what is now certain
  SplitText flush();                      // what was held back, when no more text comes

 private:
  enum class State : std::uint8_t { undecided, before_thinking, thinking, before_answer, answer };
  bool decide();
  bool skip_newlines(State next);
  bool think(std::string& thinking);

  State state_;
  std::string held_;
};

}  // namespace cajal
