#include "text/think_splitter.h"

#include <algorithm>
#include <utility>

namespace cajal {
namespace {

constexpr std::string_view kBegin = "<think>", kEnd = "</think>";

// How much of the end of `text` may be the beginning of the tag that ends thinking.
std::size_t tag_begun(std::string_view text) {
  std::size_t length = std::min(text.size(), kEnd.size() - 1);
  while (!text.ends_with(kEnd.substr(0, length))) --length;
  return length;
}

}  // namespace

// Each returns whether the state has changed.
bool ThinkSplitter::decide() {
  const std::size_t begin = std::min(held_.find_first_not_of(" \t\r\n"), held_.size());
  const std::string_view rest = std::string_view(held_).substr(begin);
  if (rest.starts_with(kBegin)) {
    held_.erase(0, begin + kBegin.size());
    state_ = State::before_thinking;
    return true;
  }
  if (kBegin.starts_with(rest)) return false;
  state_ = State::answer;
  return true;
}

bool ThinkSplitter::skip_newlines(State next) {
  held_.erase(0, held_.find_first_not_of('\n'));
  if (held_.empty()) return false;
  state_ = next;
  return true;
}

bool ThinkSplitter::think(std::string& thinking) {
  const std::size_t tag = held_.find(kEnd);
  const bool ended = tag != std::string::npos;
  std::size_t certain = ended ? tag : held_.size() - tag_begun(held_);
  while (certain > 0 && held_[certain - 1] == '\n') --certain;
  thinking += held_.substr(0, certain);
  held_.erase(0, ended ? tag + kEnd.size() : certain);
  if (ended) state_ = State::before_answer;
  return ended;
}

SplitText ThinkSplitter::push(std::string_view text) {
  held_ += text;
  SplitText split;
  if (state_ == State::undecided && !decide()) return split;
  if (state_ == State::before_thinking && !skip_newlines(State::thinking)) return split;
  if (state_ == State::thinking && !think(split.thinking)) return split;
  if (state_ == State::before_answer && !skip_newlines(State::answer)) return split;
  split.answer = std::exchange(held_, {});
  return split;
}

SplitText ThinkSplitter::flush() {
  std::string rest = std::exchange(held_, {});
  if (state_ == State::thinking) return {std::move(rest), {}};
  return {{}, std::move(rest)};
}

}  // namespace cajal
