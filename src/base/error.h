#pragma once
// How the engine reports what went wrong. Two tools, never mixed:
//   Error         thrown for what a user or the machine can cause: a bad file, a missing weight, no memory.
//   CAJAL_CHECK   for what only our own bug can cause: it prints and aborts.
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace cajal {

enum class ErrorCode {
  invalid_argument,  // a flag or a request that makes no sense: exit 2
  not_found,
  unsupported,
  out_of_memory,
  data_loss,  // a file that is not what it says it is
  unavailable,
};

// A message reads "<what, where, expected and got> — <what to do>"; the remedy travels apart, so that context which
// callers put in front and the remedy at the end do not get mixed.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, std::string message, std::string remedy = {});

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }  // without the remedy
  const std::string& remedy() const { return remedy_; }    // may be empty

 private:
  ErrorCode code_;
  std::string message_, remedy_;
};

// Says what the user can do; goes last in fail(): fail(code, "a is 3, expected 4", remedy("run b")).
struct Remedy {
  std::string text;
};

namespace detail {
inline void append(std::ostringstream&, Remedy& into, const Remedy& r) { into = r; }
template <class Part>
void append(std::ostringstream& out, Remedy&, const Part& part) {
  out << part;
}
template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream out;
  ((out << parts), ...);
  return out.str();
}
[[noreturn]] void check_failed(const char* condition, const char* file, int line, const std::string& why);
}  // namespace detail

template <class... Parts>
Remedy remedy(const Parts&... parts) {
  return {detail::join(parts...)};
}

template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
  std::ostringstream out;
  Remedy r;
  (detail::append(out, r, parts), ...);
  throw Error(code, out.str(), std::move(r.text));
}

// Runs `body`; if it throws, the message gains "<what>: " in front, so the user reads the road to the fault.
template <class Body>
decltype(auto) with_context(std::string_view what, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const Error& e) {
    throw Error(e.code(), detail::join(what, ": ", e.message()), e.remedy());
  }
}

#define CAJAL_CHECK(condition, ...)                                                                      \
  do {                                                                                                   \
    if (!(condition)) [[unlikely]]                                                                       \
      ::cajal::detail::check_failed(#condition, __FILE__, __LINE__, ::cajal::detail::join(__VA_ARGS__)); \
  } while (false)

}  // namespace cajal
