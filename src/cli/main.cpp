// The program's entry.
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "cli/run.h"
#include "cli/streams.h"

extern char** environ;

namespace {

cajal::cli::Environment environment() {
  cajal::cli::Environment result;
  for (char** entry = environ; entry && *entry; ++entry) {
    const std::string text = *entry;
    if (const std::size_t equals = text.find('='); equals != std::string::npos)
      result.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace cajal::cli;
  install_signal_handlers();
  FdBuffer in_buffer(STDIN_FILENO), out_buffer(STDOUT_FILENO);
  std::istream in(&in_buffer);
  std::ostream out(&out_buffer);
  const std::vector<std::string> arguments(argv + (argc > 0), argv + argc);
  return run(arguments, environment(), in, out, std::cerr);
}
