#pragma once
// Reading lines from someone at a terminal, who may change them and go back to earlier ones.
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "cli/line_buffer.h"

namespace cajal::cli {

// Emacs' keys and the arrows. Lines are remembered for as long as the editor lives, and written nowhere. From the
// first read() on keys come one by one, also between lines, so that none is taken for something else there, until
// restore_terminal() or the editor's end.
class LineEditor {
 public:
  enum class Outcome { line, interrupted, end_of_input };

  LineEditor() = default;
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

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

// Gives the terminal back as it was, so that Ctrl-C is a signal again; a signal handler may call it.
void restore_terminal() noexcept;

}  // namespace cajal::cli
