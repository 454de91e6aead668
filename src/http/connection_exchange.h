#pragma once
// The exchange of a connection: what any thread writes waits here for the server's thread, which sends it.
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "http/exchange.h"

namespace cajal::http {

// Who sends what an exchange has. Any thread may call, until the exchange ends.
class ExchangeCarrier {
 public:
  virtual ~ExchangeCarrier() = default;
  virtual void post_flush() = 0;  // calls take_unsent() on the server's thread, soon
  virtual void post_close() = 0;  // ends the connection there
};

class ConnectionExchange final : public Exchange {
 public:
  ConnectionExchange(std::shared_ptr<ExchangeCarrier> carrier, std::size_t max_unsent_bytes, Request request);

  Request& request() override { return request_; }
  void respond(Response response) override;
  void begin_stream(Response head, std::string ping) override;
  void write(std::string_view piece) override;
  void finish() override;
  bool gone() const override;
  void on_gone(std::function<void()> callback) override;
  void on_over(std::function<void(const Outcome&)> callback) override;

  // Of the connection, on the server's thread.
  struct Unsent {
    std::string bytes;
    bool finished = false;  // nothing follows them
  };
  Unsent take_unsent();
  void sent_all();  // what was taken
  void ping();
  bool keeps_alive() const;
  void end(bool client_gone);

 private:
  void append_head(const Response& response, std::string_view framing);
  void append_chunk(std::string_view piece);
  void post_flush();

  const std::size_t max_unsent_bytes_;
  Request request_;
  const bool is_head_;  // HEAD wants no body
  const bool chunked_;  // HTTP/1.1 knows chunks; for older clients a stream ends with the connection
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();

  mutable std::mutex mutex_;                  // of all that follows
  std::shared_ptr<ExchangeCarrier> carrier_;  // until the end: an exchange may be kept longer than its server lives
  bool keep_alive_;
  std::string unsent_, ping_;
  std::size_t num_taken_ = 0;  // bytes that are being sent
  bool streaming_ = false, finished_ = false, gone_ = false, over_ = false, flush_posted_ = false;
  bool dropped_ = false;  // the client let too much pile up: its connection is about to be closed
  Outcome outcome_;
  std::function<void()> on_gone_;
  std::function<void(const Outcome&)> on_over_;
};

}  // namespace cajal::http
