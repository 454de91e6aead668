#pragma once
// HTTP/1.1 requests out of bytes, however they are cut. Parsing is Boost.Beast's; here are the limits, and what two readers
// could understand differently is refused.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "http/message.h"

namespace cajal::http {

struct RequestLimits {
  std::uint32_t head_bytes = 16 << 10;  // request line and headers
  std::size_t num_headers = 100;
  std::uint64_t body_bytes = std::uint64_t{16} << 20;
};

// What is wrong with bytes that are no request, and the status to answer with: 400, 413 or 431.
struct BadRequest {
  int status = 400;
  std::string message;
};

class RequestParser {
 public:
  explicit RequestParser(const RequestLimits& limits);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  enum class State : std::uint8_t {
    nothing,   // of the request is here yet
    head,      // not all of it
    body,      // likewise
    complete,  // take() gives it
    failed,    // failure() says why, and nothing can follow
  };
  // More bytes. What stands behind a complete request is kept for the next.
  State push(std::string_view bytes);
  State state() const { return state_; }
  const BadRequest& failure() const { return failure_; }
  std::size_t num_held_bytes() const { return held_.size(); }  // behind the request
  bool expects_continue() const;  // the head is here, and the client waits for a word before it sends the body

  // The complete request, without the fields of a trailer; the parser then begins the next, of which some may be here:
  // push("") looks.
  Request take();

 private:
  struct Impl;
  void parse();
  void check_head(std::string_view head);
  void fail(int status, std::string message);

  RequestLimits limits_;
  std::unique_ptr<Impl> impl_;
  std::string held_;  // what the parser has not consumed
  State state_ = State::nothing;
  BadRequest failure_;
};

}  // namespace cajal::http
