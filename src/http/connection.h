#pragma once
// One client's connection, one exchange after another. Everything but Exchange's functions runs on the server's thread.
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>

#include "http/connection_exchange.h"
#include "http/request_parser.h"
#include "http/server.h"
#include "http/stream.h"

namespace cajal::http {

class Connection;

// What all connections of a server share.
struct ConnectionPool {
  boost::asio::io_context& io;
  const ServerOptions& options;
  const Server::Handler& handler;
  const Server::ErrorPage& error_page;
  std::unordered_set<std::shared_ptr<Connection>> connections;
  bool draining = false;
  std::function<void()> on_idle;  // a connection has ended, or its exchange has

  bool has_exchange() const;
  void close_longest_idle();  // if there is one
};

class Connection final : public ExchangeCarrier, public std::enable_shared_from_this<Connection> {
 public:
  Connection(ConnectionPool& pool, std::unique_ptr<Stream> stream);

  void start();
  void close();          // at once; who waits for the client hears that it is gone
  bool is_idle() const;  // between requests, or before the first
  std::chrono::steady_clock::time_point idle_since() const { return idle_since_; }
  bool has_exchange() const { return exchange_ != nullptr; }
  void post_flush() override;
  void post_close() override;

 private:
  enum class Phase : std::uint8_t { greeting, reading, answering, lingering, closed };
  void on_greeted(Stream::Greeting greeting);
  void read();
  void on_read(const boost::system::error_code& error, std::size_t count);
  void consume(std::string_view bytes);
  void refuse(const BadRequest& why);
  void begin_exchange();
  void flush();
  void end_exchange();
  void next_request();
  void write();
  void on_written(const boost::system::error_code& error);
  void linger();
  void set_read_timer();
  void on_read_timer();
  void set_ping_timer();

  ConnectionPool& pool_;
  std::unique_ptr<Stream> stream_;
  boost::asio::steady_timer timer_, write_timer_;
  RequestParser parser_;
  RequestParser::State timed_ = RequestParser::State::complete;  // what timer_ was set for
  std::array<char, 16 << 10> buffer_{};
  std::string early_;  // what came of the next request while this one is answered
  bool reading_ = false;
  std::string sending_;
  bool writing_ = false;
  bool keep_alive_ = true;  // after this exchange
  bool pinged_ = false;     // nothing was sent since the last look
  std::shared_ptr<ConnectionExchange> exchange_;
  Phase phase_ = Phase::greeting;
  std::chrono::steady_clock::time_point idle_since_ = std::chrono::steady_clock::now();
};

}  // namespace cajal::http
