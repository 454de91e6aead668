#pragma once
// The command line itself is at fault: exit code 2. Everything else that fails is exit code 1.
#include "base/error.h"

namespace cajal::cli {

class UsageError : public Error {
 public:
  explicit UsageError(std::string message, std::string remedy = {})
      : Error(ErrorCode::invalid_argument, std::move(message), std::move(remedy)) {}
};

// As fail(), for misuse of flags.
template <class... Parts>
[[noreturn]] void misuse(const Parts&... parts) {
  std::ostringstream out;
  Remedy r;
  (detail::append(out, r, parts), ...);
  throw UsageError(out.str(), std::move(r.text));
}

}  // namespace cajal::cli
