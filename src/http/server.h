#pragma once
// A server on one thread: it accepts, reads and writes; answers come from any thread through Exchange.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "http/exchange.h"
#include "http/request_parser.h"

namespace cajal::http {

struct TlsContext;

struct ServerOptions {
  std::string host = "127.0.0.1";        // an address or a name
  std::uint16_t port = 8000;             // 0: one that is free
  std::shared_ptr<TlsContext> tls = {};  // of tls.h; null: plain HTTP
  RequestLimits limits = {};
  std::size_t max_connections = 4096;  // one more ends the one that has been idle longest, or is closed at once
  std::size_t max_unsent_bytes = std::size_t{1} << 20;  // of a stream: a client that lets more pile up is dropped
  std::chrono::milliseconds head_timeout =
      std::chrono::seconds(15);  // from a request's first byte to its last header's, and of TLS's handshake
  std::chrono::milliseconds body_timeout = std::chrono::seconds(60);  // and on to the last of its body
  std::chrono::milliseconds idle_timeout = std::chrono::seconds(75);  // between requests
  std::chrono::milliseconds write_timeout =
      std::chrono::seconds(30);  // in which the client takes what is to be written
  std::chrono::milliseconds ping_interval = std::chrono::seconds(15);  // of a stream in which nothing happens
};

class Server {
 public:
  // Is called on the server's thread for each request and must not wait.
  using Handler = std::function<void(const std::shared_ptr<Exchange>&)>;
  // Makes the answer to bytes that are no request, or came too slowly (408).
  using ErrorPage = std::function<Response(const BadRequest&)>;

  // Listens from here on; nothing is accepted before run(). Error(unavailable) if the address cannot be had.
  Server(const ServerOptions& options, Handler handler, ErrorPage error_page);
  ~Server();  // no run() may be under way, and no exchange be used afterwards
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::uint16_t port() const;
  std::string url() const;  // "http://127.0.0.1:8000"

  // Serves on this thread until stop() or drain().
  void run();
  // Any thread, as all that follows. Drops every connection.
  void stop();
  // Stops when no exchange is unfinished, or after `timeout`; connections without one are closed. New requests go to the
  // handler as before, which should refuse them.
  void drain(std::chrono::nanoseconds timeout);
  // Calls back on the server's thread for each SIGINT and SIGTERM instead of what else would be done.
  void on_signals(std::function<void(int)> callback);
  std::size_t num_connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cajal::http
