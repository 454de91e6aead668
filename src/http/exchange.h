#pragma once
// One request and its answer, from the side of who answers.
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

#include "http/message.h"

namespace cajal::http {

// How an exchange ended.
struct Outcome {
  int status = 0;             // of the answer; 0: none was begun
  std::size_t num_bytes = 0;  // of its body that were accepted for sending
  bool client_gone = false;   // before the answer was complete
  std::chrono::nanoseconds duration{};
};

// All but request() may be called from any thread; nothing here waits for the client. Either respond(), or begin_stream()
// and any number of write() and then finish().
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual Request& request() = 0;  // of whoever the server gave the exchange to

  virtual void respond(Response response) = 0;
  // `head` has no body. Where nothing is written for a while, `ping` is, so that nobody in between takes it for dead.
  virtual void begin_stream(Response head, std::string ping) = 0;
  virtual void write(std::string_view piece) = 0;
  virtual void finish() = 0;

  // Whether nobody will read the rest: the client has left, or reads so slowly that too much has piled up.
  virtual bool gone() const = 0;
  // Is called once if that happens before the answer is complete, on the server's thread; at once if it has.
  virtual void on_gone(std::function<void()> callback) = 0;
  // Is called once at the end, when the last byte was sent or the client is gone, on the server's thread.
  virtual void on_over(std::function<void(const Outcome&)> callback) = 0;
};

}  // namespace cajal::http
