#include "cli/line_editor.h"

#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

namespace cajal::cli {
namespace {

termios g_before{};
std::atomic<bool> g_is_raw{false};

// Every key comes at once, none is shown and none is a signal. What was typed meanwhile is kept.
void make_raw() {
  if (g_is_raw || ::tcgetattr(STDIN_FILENO, &g_before) != 0) return;
  termios raw = g_before;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG | IEXTEN);
  raw.c_iflag &= ~static_cast<tcflag_t>(IXON);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  g_is_raw = ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

void suspend() {
  restore_terminal();
  ::raise(SIGTSTP);
  make_raw();
}

// A terminal that cannot be written to is one that nobody reads.
void put(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

int terminal_width() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::string moved(int count, char direction) {
  return count > 0 ? "\033[" + std::to_string(count) + direction : std::string();
}

}  // namespace

void restore_terminal() noexcept {
  if (g_is_raw.exchange(false)) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &g_before);
}

LineEditor::~LineEditor() { restore_terminal(); }

bool LineEditor::is_possible() {
  const char* const kind = std::getenv("TERM");
  return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1 && kind && *kind &&
         std::string_view(kind) != "dumb";
}

// Waits for keys. False: there will be none.
bool LineEditor::fill() {
  std::array<char, 4096> bytes;
  while (waiting_.empty()) {
    const ssize_t got = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    for (KeyPress& key : decoder_.push({bytes.data(), static_cast<std::size_t>(got)}))
      waiting_.push_back(std::move(key));
  }
  return true;
}

void LineEditor::browse(int step) {
  if ((step < 0 && shown_ == 0) || (step > 0 && shown_ == history_.size())) return;
  if (shown_ == history_.size()) draft_ = buffer_.text();
  shown_ = step < 0 ? shown_ - 1 : shown_ + 1;
  buffer_.set(shown_ == history_.size() ? draft_ : history_[shown_]);
}

bool LineEditor::press(const KeyPress& pressed) {
  const bool at_end = buffer_.cursor() == buffer_.text().size();
  switch (pressed.key) {
    case Key::up: browse(-1); return true;
    case Key::down: browse(1); return true;
    case Key::redraw:
      put("\033[H\033[2J");
      row_ = 0;
      return true;
    case Key::end_of_input: buffer_.press({Key::erase, {}}); return true;
    default: buffer_.press(pressed);
  }
  // The common case needs no drawing: a character at the end of a line that has room.
  if (pressed.key != Key::text || !at_end || columns_of(prompt_ + buffer_.text()) >= terminal_width()) return true;
  put(pressed.text);
  return false;
}

void LineEditor::draw() {
  const int width = terminal_width();
  const std::string all = prompt_ + buffer_.text();
  const ScreenPosition end = position_after(all, width);
  const ScreenPosition cursor =
      position_after(std::string_view(all).substr(0, prompt_.size() + buffer_.cursor()), width);
  std::string out = moved(row_, 'A') + "\r\033[J" + all;
  if (end.row > 0 && end.column == 0) out += "\r\n";  // a full row: terminals wait with the next one
  out += moved(end.row - cursor.row, 'A') + "\r" + moved(cursor.column, 'C');
  row_ = cursor.row;
  put(out);
}

LineEditor::Outcome LineEditor::read(std::string_view prompt, std::string& line) {
  make_raw();
  prompt_ = prompt;
  buffer_.set({});
  shown_ = history_.size();
  row_ = 0;
  put(prompt_);
  for (;;) {
    if (!fill()) return Outcome::end_of_input;
    const KeyPress key = std::move(waiting_.front());
    waiting_.pop_front();
    const bool is_empty = buffer_.text().empty();
    if (key.key == Key::end_of_input && is_empty) return Outcome::end_of_input;
    if (key.key == Key::suspend) suspend();
    if (key.key == Key::enter || key.key == Key::interrupt) {
      if (buffer_.cursor() != buffer_.text().size()) {
        buffer_.press({Key::end, {}});
        draw();
      }
      put("\n");
      if (key.key == Key::interrupt) return Outcome::interrupted;
      line = buffer_.text();
      if (!is_empty && (history_.empty() || history_.back() != line)) history_.push_back(line);
      return Outcome::line;
    }
    if (press(key)) draw();
  }
}

}  // namespace cajal::cli
