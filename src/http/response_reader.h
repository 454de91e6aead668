#pragma once
// An HTTP/1.1 answer out of bytes, however they are cut; its body is handed on as it comes.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cajal::http {

class ResponseReader {
 public:
  ResponseReader();
  ~ResponseReader();
  ResponseReader(const ResponseReader&) = delete;
  ResponseReader& operator=(const ResponseReader&) = delete;

  enum class State : std::uint8_t { head, body, complete, failed };
  // More bytes; what they add to the body is appended to `body`.
  State push(std::string_view bytes, std::string& body);
  State end_of_stream();  // the connection has ended, which is how some bodies do
  State state() const { return state_; }
  const std::string& failure() const { return failure_; }

  // From State::body on.
  int status() const;
  bool keeps_alive() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string held_, failure_;
  State state_ = State::head;
};

}  // namespace cajal::http
