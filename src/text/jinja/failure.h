#pragma once
// What goes wrong in a template. Inside the engine a Failure is thrown; where a template is left it becomes a
// TemplateError, which knows the line.
#include <string>
#include <string_view>

#include "base/error.h"

namespace cajal::jinja {

// Named after what Jinja or Python raise in the same place.
enum class ErrorKind {
  syntax,         // TemplateSyntaxError: what cannot be parsed, or names a filter or test that does not exist
  unsupported,    // include, import, extends and what else a chat template cannot use here
  undefined,      // UndefinedError: something was used that the variables do not have
  type,           // TypeError
  value,          // ValueError
  zero_division,  // ZeroDivisionError
  overflow,       // OverflowError: an integer beyond 64 bits, or a range that is too long
  lookup,         // KeyError, IndexError
  security,       // SecurityError: what Jinja's sandbox refuses
  runtime,        // TemplateRuntimeError
  raised,         // the template called raise_exception: the message is its own
  limit,          // more steps, bytes or depth than Limits allow
};
std::string_view name_of(ErrorKind kind);  // "UndefinedError"; "" for raised

// Syntax errors and what is unsupported have those codes (data_loss, unsupported); all else is invalid_argument, because
// what fails while rendering depends on the request.
class TemplateError : public Error {
 public:
  TemplateError(ErrorKind kind, int line, std::string_view what, std::string_view reason);

  ErrorKind kind() const { return kind_; }
  int line() const { return line_; }                     // of the template, from 1
  const std::string& reason() const { return reason_; }  // the message without place and kind

 private:
  ErrorKind kind_;
  int line_;
  std::string reason_;
};

struct Failure {
  ErrorKind kind;
  std::string message;
};

template <class... Parts>
[[noreturn]] void raise(ErrorKind kind, const Parts&... parts) {
  throw Failure{kind, ::cajal::detail::join(parts...)};
}

}  // namespace cajal::jinja
