#include "text/qwen_scanner.h"

namespace cajal {

using unicode::kLetter;
using unicode::kNumber;
using unicode::kSpace;

std::size_t QwenScanner::next(std::size_t at) const {
  const Char c = look(at);
  if (c.kind == kLetter) return letters(at + c.length);
  if (c.kind == kNumber) return at + c.length;
  if (text_[at] == '\'')
    if (const std::size_t length = contraction(at)) return at + length;
  // A word takes one character before it along: a space, a bracket, a joiner, but no line end.
  const Char second = look(at + c.length);
  if (second.kind == kLetter && !c.newline) return letters(at + c.length + second.length);
  if (c.kind == 0) return symbols(at + c.length);
  if (text_[at] == ' ' && second.kind == 0) return symbols(at + c.length + second.length);
  return spaces(at);
}

// Case is folded as Unicode has it, so that the long s counts as an s.
std::size_t QwenScanner::contraction(std::size_t at) const {
  const auto lower = [&](std::size_t i) {
    const char c = i < text_.size() ? text_[i] : '\0';
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char first = lower(at + 1), second = lower(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  return text_.substr(at + 1).starts_with("\xc5\xbf") ? 3 : 0;  // U+017F
}

std::size_t QwenScanner::letters(std::size_t at) const {
  for (Char c = look(at); c.kind == kLetter; c = look(at)) at += c.length;
  return at;
}

std::size_t QwenScanner::symbols(std::size_t at) const {
  for (Char c = look(at); c.kind == 0; c = look(at)) at += c.length;
  while (at < text_.size() && (text_[at] == '\n' || text_[at] == '\r')) ++at;
  return at;
}

// White space up to its last line end; without one, all but the last character, which goes with what follows, unless
// nothing follows or it is the only one.
std::size_t QwenScanner::spaces(std::size_t begin) const {
  std::size_t at = begin, after_newline = begin, last = begin;
  for (Char c = look(at); c.kind == kSpace; c = look(at)) {
    last = at;
    at += c.length;
    if (c.newline) after_newline = at;
  }
  if (after_newline > begin) return after_newline;
  return at < text_.size() && last > begin ? last : at;
}

}  // namespace cajal
