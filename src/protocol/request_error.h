#pragma once
// What a request is answered with when it cannot be served: OpenAI's error object.
#include <stdexcept>
#include <string>

#include "base/error.h"
#include "base/json.h"

namespace cajal::protocol {

struct ErrorBody {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string code = {};   // "context_length_exceeded"; empty: null
  std::string param = {};  // the field that is wrong, "messages[0].role"; empty: null
  std::string message = {};
};
Json to_json(const ErrorBody& error);  // {"error": {"message", "type", "param", "code"}}

class RequestError : public std::runtime_error {
 public:
  explicit RequestError(ErrorBody body) : std::runtime_error(body.message), body_(std::move(body)) {}
  const ErrorBody& body() const { return body_; }

 private:
  ErrorBody body_;
};

// A field that is wrong: 400 that names it.
template <class... Parts>
[[noreturn]] void refuse(std::string param, const Parts&... parts) {
  throw RequestError({.param = param, .message = detail::join(param, parts...)});
}

}  // namespace cajal::protocol
