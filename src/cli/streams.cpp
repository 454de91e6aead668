#include "cli/streams.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "cli/line_editor.h"

namespace cajal::cli {
namespace {

enum class Interrupts : int { end_the_program, deferred, waiting, listening, answering, stopped };
std::atomic<Interrupts> g_interrupts{Interrupts::end_the_program};
static_assert(std::atomic<Interrupts>::is_always_lock_free, "a signal handler uses it");

void on_interrupt(int) {
  switch (g_interrupts) {
    case Interrupts::deferred: g_interrupts = Interrupts::waiting; return;
    case Interrupts::answering:
    case Interrupts::stopped: g_interrupts = Interrupts::stopped; return;
    case Interrupts::listening: {
      // At once, because the next one may come to another thread while this one still writes.
      g_interrupts = Interrupts::end_the_program;
      const int before = errno;
      for (const std::string_view text : {std::string_view("\n"), kInterruptHint, kDialoguePrompt})
        [[maybe_unused]] const ssize_t put = ::write(STDERR_FILENO, text.data(), text.size());
      errno = before;
      return;
    }
    case Interrupts::end_the_program:
    case Interrupts::waiting: restore_terminal(); _exit(130);
  }
}

}  // namespace

void Output::write(std::string_view text) {
  errno = 0;
  to_.write(text.data(), static_cast<std::streamsize>(text.size()));
  to_.flush();
  if (to_) return;
  const int code = errno;
  if (code == EPIPE) throw ClosedPipe{};
  fail(ErrorCode::unavailable, "standard output: cannot write: ", code == 0 ? "the stream failed" : std::strerror(code),
       remedy("free some space or write to another place"));
}

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

DeferInterrupts::DeferInterrupts() { g_interrupts = Interrupts::deferred; }
DeferInterrupts::~DeferInterrupts() { g_interrupts = Interrupts::end_the_program; }

void throw_if_interrupted() {
  if (g_interrupts == Interrupts::waiting) throw Interrupted{};
}

Dialogue::~Dialogue() { g_interrupts = Interrupts::end_the_program; }
void Dialogue::listen() { g_interrupts = Interrupts::listening; }
void Dialogue::answer() { g_interrupts = Interrupts::answering; }
bool Dialogue::is_answer_stopped() { return g_interrupts == Interrupts::stopped; }

bool is_terminal(const std::ios& stream) {
  const auto* own = dynamic_cast<const FdBuffer*>(stream.rdbuf());
  return own && own->is_terminal();
}

bool Output::is_terminal() const { return cli::is_terminal(to_); }

std::string read_all(std::istream& in) {
  std::string text;
  std::array<char, 1 << 16> piece;
  while (in.read(piece.data(), piece.size()), in.gcount() > 0)
    text.append(piece.data(), static_cast<std::size_t>(in.gcount()));
  if (in.bad()) fail(ErrorCode::unavailable, "standard input: cannot read", remedy("check what it is connected to"));
  return text;
}

std::string read_file_or(std::istream& in, const std::string& path) {
  if (path == "-") return read_all(in);
  std::error_code ignored;
  if (!std::filesystem::is_fifo(path, ignored) && !std::filesystem::is_character_file(path, ignored))
    return read_file(path);
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ErrorCode::unavailable, path, ": cannot open");
  return read_all(file);
}

FdBuffer::FdBuffer(int fd) : fd_(fd) {}

bool FdBuffer::is_terminal() const { return ::isatty(fd_) == 1; }

FdBuffer::int_type FdBuffer::underflow() {
  for (;;) {
    const ssize_t got = ::read(fd_, in_.data(), in_.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::ios_base::failure("read");  // std::istream turns it into badbit
    if (got == 0) return traits_type::eof();
    setg(in_.data(), in_.data(), in_.data() + got);
    return traits_type::to_int_type(in_[0]);
  }
}

bool FdBuffer::write_out(const char* text, std::size_t count) const {
  while (count > 0) {
    const ssize_t put = ::write(fd_, text, count);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    text += put;
    count -= static_cast<std::size_t>(put);
  }
  return true;
}

FdBuffer::int_type FdBuffer::overflow(int_type c) {
  if (!traits_type::eq_int_type(c, traits_type::eof())) out_.push_back(traits_type::to_char_type(c));
  return out_.size() < in_.size() || sync() == 0 ? traits_type::not_eof(c) : traits_type::eof();
}

std::streamsize FdBuffer::xsputn(const char* text, std::streamsize count) {
  out_.append(text, static_cast<std::size_t>(count));
  return out_.size() < in_.size() || sync() == 0 ? count : 0;
}

int FdBuffer::sync() {
  const bool done = write_out(out_.data(), out_.size());
  out_.clear();
  return done ? 0 : -1;
}

}  // namespace cajal::cli
