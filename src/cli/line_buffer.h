#pragma once
// A line while it is typed, and the keys that change it. Knows no terminal.
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace cajal::cli {

enum class Key {
  text,
  enter,
  backspace,
  erase,
  left,
  right,
  word_left,
  word_right,
  home,
  end,
  up,
  down,
  erase_word,
  erase_to_start,
  erase_to_end,
  interrupt,
  end_of_input,
  suspend,
  redraw
};
struct KeyPress {
  Key key;
  std::string text;  // of Key::text: valid UTF-8 without control characters
  friend bool operator==(const KeyPress&, const KeyPress&) = default;
};

// Turns the bytes of a terminal into keys. What is not whole yet waits for the bytes that come next; keys that mean
// nothing here are left out.
class KeyDecoder {
 public:
  std::vector<KeyPress> push(std::string_view bytes);

 private:
  std::string rest_;
};

// Terminal columns that text takes: 2 for East Asian wide characters and emoji, 0 for marks that join what is before.
int columns_of(char32_t code_point);
int columns_of(std::string_view text);

// Text and a cursor in it, which never stands inside a character or between a character and its marks.
class LineBuffer {
 public:
  const std::string& text() const { return text_; }
  std::size_t cursor() const { return cursor_; }  // bytes before it

  void set(std::string text);  // the cursor at its end
  // What a key changes in the line; keys that do not are ignored.
  void press(const KeyPress& key);

 private:
  std::size_t before(std::size_t at) const;
  std::size_t after(std::size_t at) const;
  std::size_t word_before(std::size_t at) const;
  std::size_t word_after(std::size_t at) const;
  void erase(std::size_t from, std::size_t to);

  std::string text_;
  std::size_t cursor_ = 0;
};

// Where a terminal of `width` columns has its cursor after it has written `text` from column 0 on.
struct ScreenPosition {
  int row = 0, column = 0;
};
ScreenPosition position_after(std::string_view text, int width);

}  // namespace cajal::cli
