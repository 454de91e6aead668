#include "text/jinja/failure.h"

namespace cajal::jinja {
namespace {

ErrorCode code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::syntax: return ErrorCode::data_loss;
    case ErrorKind::unsupported: return ErrorCode::unsupported;
    default: return ErrorCode::invalid_argument;
  }
}

std::string message_of(ErrorKind kind, int line, std::string_view what, std::string_view reason) {
  const std::string_view name = name_of(kind);
  return ::cajal::detail::join(what, ", line ", line, ": ", name, name.empty() ? "" : ": ", reason);
}

const char* remedy_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::syntax: return "correct the template, or take the one that came with the model";
    case ErrorKind::unsupported: return "a chat template is one file; write what is missing into it";
    case ErrorKind::limit: return "send less, or simplify the template";
    case ErrorKind::raised: return "change the messages to what the template accepts";
    default: return "check that the messages have the fields and types that the template uses";
  }
}

}  // namespace

std::string_view name_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::syntax: return "TemplateSyntaxError";
    case ErrorKind::unsupported: return "Unsupported";
    case ErrorKind::undefined: return "UndefinedError";
    case ErrorKind::type: return "TypeError";
    case ErrorKind::value: return "ValueError";
    case ErrorKind::zero_division: return "ZeroDivisionError";
    case ErrorKind::overflow: return "OverflowError";
    case ErrorKind::lookup: return "LookupError";
    case ErrorKind::security: return "SecurityError";
    case ErrorKind::runtime: return "TemplateRuntimeError";
    case ErrorKind::raised: return "";
    case ErrorKind::limit: return "LimitError";
  }
  return "";
}

TemplateError::TemplateError(ErrorKind kind, int line, std::string_view what, std::string_view reason)
    : Error(code_of(kind), message_of(kind, line, what, reason), remedy_of(kind)),
      kind_(kind),
      line_(line),
      reason_(reason) {}

}  // namespace cajal::jinja
