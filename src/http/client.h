#pragma once
// A client for many requests at a time to one server, all on the thread of run().
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "http/message.h"
#include "http/url.h"

namespace cajal::http {

struct TlsContext;

// What becomes of one request; run() calls.
struct ReplyHandler {
  std::function<void()> on_sent = {};  // the request is about to be written
  std::function<void(int status)> on_head = {};
  std::function<void(std::string_view piece)> on_body = {};   // as it comes
  std::function<void(const std::string& error)> on_end = {};  // once; empty: the answer is complete
};

struct ClientOptions {
  Url server;
  std::shared_ptr<TlsContext> tls = {};  // of tls.h, where server.tls
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(30);
  std::chrono::milliseconds silence_timeout = std::chrono::minutes(30);  // in which something of an answer comes
};

class Client {
 public:
  // Looks the name up. Error(unavailable) if nobody knows it.
  explicit Client(const ClientOptions& options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Connections are kept for later requests. `path` is behind that of the server. From the thread of run(), or before.
  void send(std::string_view method, std::string_view path, const std::vector<Header>& headers, std::string_view body,
            ReplyHandler handler);
  void at(std::chrono::steady_clock::time_point time, std::function<void()> what);
  // Until no request and nothing else is left to do; then more may be sent, and it may run again.
  void run();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cajal::http
