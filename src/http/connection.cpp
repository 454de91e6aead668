#include "http/connection.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

namespace cajal::http {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kMaxEarlyBytes = 64 << 10;
constexpr std::chrono::seconds kLinger{2};

}  // namespace

bool ConnectionPool::has_exchange() const {
  return std::any_of(connections.begin(), connections.end(), [](const auto& c) { return c->has_exchange(); });
}

void ConnectionPool::close_longest_idle() {
  std::shared_ptr<Connection> longest;
  for (const auto& connection : connections)
    if (connection->is_idle() && (!longest || connection->idle_since() < longest->idle_since())) longest = connection;
  if (longest) longest->close();
}

Connection::Connection(ConnectionPool& pool, std::unique_ptr<Stream> stream)
    : pool_(pool), stream_(std::move(stream)), timer_(pool.io), write_timer_(pool.io), parser_(pool.options.limits) {}

void Connection::start() {
  boost::system::error_code ignored;
  stream_->socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  timer_.expires_after(pool_.options.head_timeout);
  timer_.async_wait([self = shared_from_this()](const auto& error) {
    if (!error && self->phase_ == Phase::greeting) self->close();
  });
  stream_->greet(
      [self = shared_from_this()](Stream::Greeting greeting, const std::string&) { self->on_greeted(greeting); });
}

void Connection::on_greeted(Stream::Greeting greeting) {
  if (phase_ != Phase::greeting) return;
  if (greeting == Stream::Greeting::failed) return close();
  phase_ = Phase::reading;
  if (greeting == Stream::Greeting::plain_http) {
    stream_ = plain_stream(std::move(stream_->socket()));
    refuse({400, "this port speaks HTTPS, and the request came without TLS: write https:// in front of the address"});
  }
  if (phase_ == Phase::reading) set_read_timer();
  read();
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  phase_ = Phase::closed;
  const auto self = shared_from_this();
  timer_.cancel();
  write_timer_.cancel();
  stream_->close();
  pool_.connections.erase(self);
  if (const auto exchange = std::exchange(exchange_, nullptr)) exchange->end(true);
  if (pool_.on_idle) pool_.on_idle();
}

bool Connection::is_idle() const {
  return phase_ == Phase::greeting || (phase_ == Phase::reading && parser_.state() == RequestParser::State::nothing);
}

// There is always a read under way, so that a client that leaves is seen at once, unless it sends too much ahead.
void Connection::read() {
  if (reading_ || phase_ == Phase::closed || early_.size() >= kMaxEarlyBytes) return;
  reading_ = true;
  stream_->read_some(buffer_, [self = shared_from_this()](const auto& error, std::size_t count) {
    self->reading_ = false;
    self->on_read(error, count);
  });
}

void Connection::on_read(const boost::system::error_code& error, std::size_t count) {
  if (phase_ == Phase::closed) return;
  if (error) return close();
  const std::string_view bytes(buffer_.data(), count);
  if (phase_ == Phase::reading)
    consume(bytes);
  else if (phase_ == Phase::answering)
    early_ += bytes;
  read();
}

void Connection::consume(std::string_view bytes) {
  const auto before = parser_.state();
  const auto state = parser_.push(bytes);
  if (state == RequestParser::State::failed) return refuse(parser_.failure());
  if (state == RequestParser::State::complete) return begin_exchange();
  if (state != before && parser_.expects_continue()) {
    sending_ = "HTTP/1.1 100 Continue\r\n\r\n";
    write();
  }
  set_read_timer();
}

void Connection::begin_exchange() {
  phase_ = Phase::answering;
  timer_.cancel();
  timed_ = RequestParser::State::complete;
  exchange_ = std::make_shared<ConnectionExchange>(shared_from_this(), pool_.options.max_unsent_bytes, parser_.take());
  set_ping_timer();
  pool_.handler(exchange_);
}

// An answer to what is no request, after which nothing can be understood any more.
void Connection::refuse(const BadRequest& why) {
  phase_ = Phase::answering;
  timer_.cancel();
  Request nothing;
  nothing.version = "1.1";
  nothing.keep_alive = false;
  exchange_ =
      std::make_shared<ConnectionExchange>(shared_from_this(), pool_.options.max_unsent_bytes, std::move(nothing));
  exchange_->respond(pool_.error_page(why));
}

void Connection::post_flush() {
  asio::post(pool_.io, [self = shared_from_this()] { self->flush(); });
}

void Connection::post_close() {
  asio::post(pool_.io, [self = shared_from_this()] { self->close(); });
}

// Sends what the exchange has, if nothing is being sent.
void Connection::flush() {
  if (!exchange_ || phase_ == Phase::closed) return;
  if (writing_) return;
  auto unsent = exchange_->take_unsent();
  if (unsent.bytes.empty()) {
    if (unsent.finished) end_exchange();
    return;
  }
  sending_ = std::move(unsent.bytes);
  write();
}

void Connection::write() {
  writing_ = true;
  write_timer_.expires_after(pool_.options.write_timeout);
  write_timer_.async_wait([self = shared_from_this()](const auto& error) {
    if (!error) self->close();
  });
  stream_->write(sending_, [self = shared_from_this()](const auto& error) { self->on_written(error); });
}

void Connection::on_written(const boost::system::error_code& error) {
  writing_ = false;
  if (phase_ == Phase::closed) return;
  write_timer_.cancel();
  if (error) return close();
  pinged_ = false;
  if (!exchange_) return;
  exchange_->sent_all();
  flush();
}

void Connection::end_exchange() {
  timer_.cancel();
  const auto exchange = std::exchange(exchange_, nullptr);
  keep_alive_ = exchange->keeps_alive() && !pool_.draining;
  exchange->end(false);
  if (keep_alive_)
    next_request();
  else
    linger();
  if (pool_.on_idle) pool_.on_idle();
}

void Connection::next_request() {
  phase_ = Phase::reading;
  idle_since_ = std::chrono::steady_clock::now();
  consume(std::exchange(early_, {}));
  read();
}

// Closing with bytes unread would reset the connection, and the client might lose the answer: it is told that nothing
// follows, and has a moment to see it.
void Connection::linger() {
  phase_ = Phase::lingering;
  early_ = {};
  stream_->shutdown_send(shared_from_this());
  timer_.expires_after(kLinger);
  timer_.async_wait([self = shared_from_this()](const auto& error) {
    if (!error) self->close();
  });
  read();
}

// One deadline for each part of a request, from when it begins: a byte now and then does not move it.
void Connection::set_read_timer() {
  const auto state = parser_.state();
  if (state == timed_) return;
  timed_ = state;
  const ServerOptions& o = pool_.options;
  timer_.expires_after(state == RequestParser::State::nothing ? o.idle_timeout
                       : state == RequestParser::State::head  ? o.head_timeout
                                                              : o.body_timeout);
  timer_.async_wait([self = shared_from_this()](const auto& error) {
    if (!error && self->phase_ == Phase::reading) self->on_read_timer();
  });
}

void Connection::on_read_timer() {
  if (parser_.state() == RequestParser::State::nothing) return close();
  refuse({408, "the request did not come to its end in time"});
}

void Connection::set_ping_timer() {
  timer_.expires_after(pool_.options.ping_interval);
  timer_.async_wait([self = shared_from_this()](const auto& error) {
    if (error || !self->exchange_) return;
    if (std::exchange(self->pinged_, true)) self->exchange_->ping();
    self->set_ping_timer();
  });
}

}  // namespace cajal::http
