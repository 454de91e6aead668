#pragma once
// Reading lines from someone at a terminal, who may change them and go back to earlier ones.
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "cli/line_buffer.h"

namespace cajal::cli {

// Emacs' keys and the arrows. Lines are remembered for as long as the editor lives, and written nowhere. Outside of
// read() the terminal is as it was.
class LineEditor {
 public:
  enum class Outcome { line, interrupted, end_of_input };

  // Whether standard input and error are a terminal that can move its cursor.
  static bool is_possible();

  // Writes the prompt to standard error and edits a line below it. `line` is valid UTF-8 of one line.
  Outcome read(std::string_view prompt, std::string& line);

 private:
  bool fill();
  bool press(const KeyPress& pressed);  // whether the line must be drawn again
  void browse(int step);
  void draw();

  std::string prompt_;
  LineBuffer buffer_;
  KeyDecoder decoder_;
  std::deque<KeyPress> waiting_;
  std::vector<std::string> history_;
  std::size_t shown_ = 0;  // which line of the history; its size: the new one, which is kept in draft_ meanwhile
  std::string draft_;
  int row_ = 0;  // of the cursor, below the prompt's
};

// For a signal handler that ends the program: gives the terminal back as it was.
void restore_terminal() noexcept;

}  // namespace cajal::cli
