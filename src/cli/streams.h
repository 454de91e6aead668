#pragma once
// Standard input and output of the program, and what interrupts it.
#include <array>
#include <iostream>
#include <streambuf>
#include <string>
#include <string_view>

namespace cajal::cli {

// Results. A write that fails is an Error, or ClosedPipe when whoever reads has gone.
class Output {
 public:
  explicit Output(std::ostream& to) : to_(to) {}
  void write(std::string_view text);  // and hands it on at once
  bool is_terminal() const;

 private:
  std::ostream& to_;
};

struct ClosedPipe {};   // thrown: nobody reads our results any more, which is no fault of ours
struct Interrupted {};  // thrown: the user pressed Ctrl-C

// From here on Ctrl-C ends the program at once with exit code 130, and a closed pipe is an error of write().
void install_signal_handlers();

// While one of these lives Ctrl-C sets a flag only, for work that has something to tidy up: it must ask the flag often.
// A second Ctrl-C ends the program.
class DeferInterrupts {
 public:
  DeferInterrupts();
  ~DeferInterrupts();
  DeferInterrupts(const DeferInterrupts&) = delete;
  DeferInterrupts& operator=(const DeferInterrupts&) = delete;
};
void throw_if_interrupted();

// While one of these lives the program talks with someone on a terminal: Ctrl-C stops an answer and nothing else; while
// the other side types, the first Ctrl-C says how to leave and the next one ends the program.
class Dialogue {
 public:
  Dialogue() = default;
  ~Dialogue();
  Dialogue(const Dialogue&) = delete;
  Dialogue& operator=(const Dialogue&) = delete;

  static void listen();
  static void answer();
  static bool is_answer_stopped();
};
inline constexpr std::string_view kDialoguePrompt = "> ";
inline constexpr std::string_view kInterruptHint = "(Ctrl-C once more ends the chat, as /exit and Ctrl-D do)\n";

// Whether a stream is the program's own and a terminal.
bool is_terminal(const std::ios& stream);

// All of `in`, as it is.
std::string read_all(std::istream& in);
// All of a file, which may also be a pipe, as the shell's <(…) makes them; - is `in`.
std::string read_file_or(std::istream& in, const std::string& path);

// A stream buffer on a file descriptor. Unlike that of std::cout it leaves errno as the system set it.
class FdBuffer : public std::streambuf {
 public:
  explicit FdBuffer(int fd);
  bool is_terminal() const;

 protected:
  int_type underflow() override;
  int_type overflow(int_type c) override;
  std::streamsize xsputn(const char* text, std::streamsize count) override;
  int sync() override;

 private:
  bool write_out(const char* text, std::size_t count) const;
  int fd_;
  std::array<char, 1 << 16> in_{};
  std::string out_;
};

}  // namespace cajal::cli
