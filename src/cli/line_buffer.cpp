#include "cli/line_buffer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/utf8.h"

namespace cajal::cli {
namespace {

struct Range {
  char32_t first, last;
};
template <std::size_t n>
bool is_in(const std::array<Range, n>& ranges, char32_t c) {
  return std::any_of(ranges.begin(), ranges.end(), [c](Range r) { return r.first <= c && c <= r.last; });
}

// As terminals commonly have them; a character that a terminal takes for narrower or wider is drawn a column aside.
constexpr std::array kJoining{Range{0x300, 0x36f},    Range{0x483, 0x489},   Range{0x591, 0x5bd},
                              Range{0x610, 0x61a},    Range{0x64b, 0x65f},   Range{0x1ab0, 0x1aff},
                              Range{0x1dc0, 0x1dff},  Range{0x200b, 0x200f}, Range{0x20d0, 0x20ff},
                              Range{0xfe00, 0xfe0f},  Range{0xfe20, 0xfe2f}, Range{0x1f3fb, 0x1f3ff},
                              Range{0xe0100, 0xe01ef}};
constexpr std::array kWide{Range{0x1100, 0x115f},   Range{0x2e80, 0x303e},   Range{0x3041, 0xa4cf},
                           Range{0xa960, 0xa97c},   Range{0xac00, 0xd7a3},   Range{0xf900, 0xfaff},
                           Range{0xfe30, 0xfe6f},   Range{0xff00, 0xff60},   Range{0xffe0, 0xffe6},
                           Range{0x1f300, 0x1f64f}, Range{0x1f680, 0x1f6ff}, Range{0x1f900, 0x1f9ff},
                           Range{0x1fa70, 0x1faff}, Range{0x20000, 0x3fffd}};

Key key_of_control(char c) {
  switch (c) {
    case '\r':
    case '\n': return Key::enter;
    case '\b':
    case '\x7f': return Key::backspace;
    case '\x01': return Key::home;
    case '\x02': return Key::left;
    case '\x03': return Key::interrupt;
    case '\x04': return Key::end_of_input;
    case '\x05': return Key::end;
    case '\x06': return Key::right;
    case '\x0b': return Key::erase_to_end;
    case '\x0c': return Key::redraw;
    case '\x0e': return Key::down;
    case '\x10': return Key::up;
    case '\x15': return Key::erase_to_start;
    case '\x17': return Key::erase_word;
    case '\x1a': return Key::suspend;
    default: return Key::text;  // means nothing
  }
}

// What follows ESC [ or ESC O, without it: "A", "1;5C", "3~".
Key key_of_sequence(std::string_view sequence) {
  static constexpr std::pair<std::string_view, Key> kKeys[] = {
      {"A", Key::up},           {"B", Key::down},          {"C", Key::right},        {"D", Key::left},
      {"H", Key::home},         {"F", Key::end},           {"1~", Key::home},        {"7~", Key::home},
      {"4~", Key::end},         {"8~", Key::end},          {"3~", Key::erase},       {"1;5C", Key::word_right},
      {"1;5D", Key::word_left}, {"1;3C", Key::word_right}, {"1;3D", Key::word_left},
  };
  for (const auto& [name, key] : kKeys)
    if (name == sequence) return key;
  return Key::text;
}

constexpr char kEscape = '\x1b';

// Bytes of the escape sequence that `bytes` begins with; 0 if it is not whole.
std::size_t sequence_length(std::string_view bytes) {
  if (bytes.size() < 2) return 0;
  if (bytes[1] != '[' && bytes[1] != 'O') return 2;
  for (std::size_t i = 2; i < bytes.size(); ++i)
    if (bytes[i] >= '@' && bytes[i] <= '~') return i + 1;
  return 0;
}

Key key_of_escape(std::string_view whole) {
  if (whole.size() > 2) return key_of_sequence(whole.substr(2));
  if (whole[1] == 'b') return Key::word_left;
  if (whole[1] == 'f') return Key::word_right;
  return whole[1] == '\x7f' ? Key::erase_word : Key::text;
}

bool is_control(char c) { return (c >= 0 && c < ' ') || c == '\x7f'; }

}  // namespace

std::vector<KeyPress> KeyDecoder::push(std::string_view bytes) {
  rest_ += bytes;
  std::vector<KeyPress> keys;
  const auto add = [&](Key key) {
    if (key != Key::text) keys.push_back({key, {}});
  };
  std::size_t at = 0;
  while (at < rest_.size()) {
    const std::string_view left = std::string_view(rest_).substr(at);
    if (left[0] == kEscape) {
      const std::size_t length = sequence_length(left);
      if (length == 0) break;
      add(key_of_escape(left.substr(0, length)));
      at += length;
    } else if (left[0] == '\t') {
      keys.push_back({Key::text, " "});
      ++at;
    } else if (is_control(left[0])) {
      add(key_of_control(left[0]));
      ++at;
    } else {
      const auto end = std::find_if(left.begin(), left.end(), is_control);
      std::string_view text = left.substr(0, static_cast<std::size_t>(end - left.begin()));
      if (text.size() == left.size()) text.remove_suffix(incomplete_utf8_suffix(text));
      if (text.empty()) break;
      keys.push_back({Key::text, replace_invalid_utf8(text)});
      at += text.size();
    }
  }
  rest_.erase(0, at);
  return keys;
}

int columns_of(char32_t c) {
  if (c < 0x300) return 1;
  return is_in(kJoining, c) ? 0 : is_in(kWide, c) ? 2 : 1;
}

int columns_of(std::string_view text) {
  int columns = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = decode_utf8(text, at);
    columns += columns_of(step.code_point);
    at += step.length;
  }
  return columns;
}

ScreenPosition position_after(std::string_view text, int width) {
  ScreenPosition position;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = decode_utf8(text, at);
    at += step.length;
    const int columns = columns_of(step.code_point);
    if (position.column + columns > width) position = {position.row + 1, 0};
    position.column += columns;
  }
  if (position.column >= width) position = {position.row + 1, 0};
  return position;
}

void LineBuffer::set(std::string text) {
  text_ = std::move(text);
  cursor_ = text_.size();
}

std::size_t LineBuffer::after(std::size_t at) const {
  if (at >= text_.size()) return text_.size();
  at += decode_utf8(text_, at).length;
  while (at < text_.size()) {
    const Utf8Step step = decode_utf8(text_, at);
    if (columns_of(step.code_point) > 0) break;
    at += step.length;
  }
  return at;
}

std::size_t LineBuffer::before(std::size_t at) const {
  std::size_t last = 0;
  for (std::size_t i = 0; i < at; i = after(i)) last = i;
  return last;
}

std::size_t LineBuffer::word_before(std::size_t at) const {
  while (at > 0 && text_[at - 1] == ' ') --at;
  while (at > 0 && text_[at - 1] != ' ') --at;
  return at;
}

std::size_t LineBuffer::word_after(std::size_t at) const {
  while (at < text_.size() && text_[at] == ' ') ++at;
  while (at < text_.size() && text_[at] != ' ') ++at;
  return at;
}

void LineBuffer::erase(std::size_t from, std::size_t to) {
  text_.erase(from, to - from);
  cursor_ = from;
}

void LineBuffer::press(const KeyPress& pressed) {
  switch (pressed.key) {
    case Key::text:
      text_.insert(cursor_, pressed.text);
      cursor_ += pressed.text.size();
      return;
    case Key::backspace: return erase(before(cursor_), cursor_);
    case Key::erase: return erase(cursor_, after(cursor_));
    case Key::erase_word: return erase(word_before(cursor_), cursor_);
    case Key::erase_to_start: return erase(0, cursor_);
    case Key::erase_to_end: return erase(cursor_, text_.size());
    case Key::left: cursor_ = before(cursor_); return;
    case Key::right: cursor_ = after(cursor_); return;
    case Key::word_left: cursor_ = word_before(cursor_); return;
    case Key::word_right: cursor_ = word_after(cursor_); return;
    case Key::home: cursor_ = 0; return;
    case Key::end: cursor_ = text_.size(); return;
    default: return;
  }
}

}  // namespace cajal::cli
