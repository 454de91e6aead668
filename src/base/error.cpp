#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace cajal {
namespace {

std::string whole(const std::string& message, const std::string& remedy) {
  return remedy.empty() ? message : message + " — " + remedy;
}

}  // namespace

Error::Error(ErrorCode code, std::string message, std::string remedy)
    : std::runtime_error(whole(message, remedy)),
      code_(code),
      message_(std::move(message)),
      remedy_(std::move(remedy)) {}

namespace detail {

void check_failed(const char* condition, const char* file, int line, const std::string& why) {
  std::fprintf(stderr, "%s:%d: CAJAL_CHECK(%s) failed%s%s\n", file, line, condition, why.empty() ? "" : ": ",
               why.c_str());
  std::abort();
}

}  // namespace detail
}  // namespace cajal
