#pragma once
// The whole program as a function.
#include <iosfwd>
#include <span>
#include <string>

#include "cli/options.h"

namespace cajal::cli {

enum ExitCode { kDone = 0, kFailed = 1, kMisused = 2, kInterruptedByUser = 130 };

// `arguments` are those after the program's name. Results go to `out`; the last line of a failure, "cajal: error: <what>
// — <what to do>", goes to `err`. Throws nothing.
int run(std::span<const std::string> arguments, const Environment& environment, std::istream& in, std::ostream& out,
        std::ostream& err);

}  // namespace cajal::cli
