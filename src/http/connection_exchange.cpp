#include "http/connection_exchange.h"

#include <array>
#include <charconv>
#include <ctime>

#include "base/error.h"

namespace cajal::http {
namespace {

std::string date_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  std::array<char, 40> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

// A line break in a value would begin another header.
void append_value(std::string& out, std::string_view value) {
  for (const char c : value) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
}

}  // namespace

ConnectionExchange::ConnectionExchange(std::shared_ptr<ExchangeCarrier> carrier, std::size_t max_unsent_bytes,
                                       Request request)
    : max_unsent_bytes_(max_unsent_bytes),
      request_(std::move(request)),
      is_head_(request_.method == "HEAD"),
      chunked_(request_.version == "1.1"),
      carrier_(std::move(carrier)),
      keep_alive_(request_.keep_alive) {}

void ConnectionExchange::append_head(const Response& response, std::string_view framing) {
  outcome_.status = response.status;
  const Header* closing = nullptr;
  for (const Header& header : response.headers)
    if (equal_ignoring_case(header.name, "Connection") && header.value == "close") closing = &header;
  if (closing) keep_alive_ = false;
  unsent_ += "HTTP/1.1 " + std::to_string(response.status) + " ";
  unsent_ += reason_phrase(response.status);
  unsent_ += "\r\nDate: " + date_now() + "\r\n";
  if (!response.content_type.empty()) unsent_ += "Content-Type: " + response.content_type + "\r\n";
  for (const Header& header : response.headers) {
    if (&header == closing) continue;
    unsent_ += header.name + ": ";
    append_value(unsent_, header.value);
    unsent_ += "\r\n";
  }
  unsent_ += framing;
  unsent_ += keep_alive_ ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
}

void ConnectionExchange::respond(Response response) {
  const std::lock_guard lock(mutex_);
  CAJAL_CHECK(!streaming_ && !finished_, "an exchange is answered twice");
  finished_ = true;
  if (gone_) return;
  append_head(response,
              response.status == 204 ? std::string() : detail::join("Content-Length: ", response.body.size(), "\r\n"));
  outcome_.num_bytes = response.body.size();
  if (!is_head_) unsent_ += response.body;
  post_flush();
}

void ConnectionExchange::begin_stream(Response head, std::string ping) {
  const std::lock_guard lock(mutex_);
  CAJAL_CHECK(!streaming_ && !finished_, "an exchange is answered twice");
  streaming_ = true;
  if (gone_) return;
  ping_ = std::move(ping);
  if (!chunked_) keep_alive_ = false;
  append_head(head, chunked_ ? "Transfer-Encoding: chunked\r\n" : "");
  post_flush();
}

void ConnectionExchange::append_chunk(std::string_view piece) {
  if (is_head_ || piece.empty()) return;
  outcome_.num_bytes += piece.size();
  if (!chunked_) {
    unsent_ += piece;
    return;
  }
  std::array<char, 16> size{};
  unsent_.append(size.data(), std::to_chars(size.data(), size.data() + size.size(), piece.size(), 16).ptr);
  unsent_ += "\r\n";
  unsent_ += piece;
  unsent_ += "\r\n";
}

void ConnectionExchange::write(std::string_view piece) {
  const std::lock_guard lock(mutex_);
  CAJAL_CHECK(streaming_ && !finished_);
  if (gone_ || dropped_) return;
  append_chunk(piece);
  if (num_taken_ + unsent_.size() > max_unsent_bytes_) {
    dropped_ = true;
    unsent_ = {};
    carrier_->post_close();
    return;
  }
  post_flush();
}

void ConnectionExchange::finish() {
  const std::lock_guard lock(mutex_);
  CAJAL_CHECK(streaming_ && !finished_);
  finished_ = true;
  if (gone_ || dropped_) return;
  if (chunked_ && !is_head_) unsent_ += "0\r\n\r\n";
  post_flush();
}

// With the lock: one flush is under way at most, and takes all that came until it runs.
void ConnectionExchange::post_flush() {
  if (flush_posted_) return;
  flush_posted_ = true;
  carrier_->post_flush();
}

bool ConnectionExchange::gone() const {
  const std::lock_guard lock(mutex_);
  return gone_ || dropped_;
}

void ConnectionExchange::on_gone(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!gone_) {
      if (!over_) on_gone_ = std::move(callback);
      return;
    }
  }
  callback();
}

void ConnectionExchange::on_over(std::function<void(const Outcome&)> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!over_) {
      on_over_ = std::move(callback);
      return;
    }
  }
  callback(outcome_);
}

ConnectionExchange::Unsent ConnectionExchange::take_unsent() {
  const std::lock_guard lock(mutex_);
  flush_posted_ = false;
  num_taken_ = unsent_.size();
  return {std::exchange(unsent_, {}), finished_};
}

void ConnectionExchange::sent_all() {
  const std::lock_guard lock(mutex_);
  num_taken_ = 0;
}

void ConnectionExchange::ping() {
  const std::lock_guard lock(mutex_);
  if (!streaming_ || finished_ || gone_ || dropped_ || num_taken_ > 0 || !unsent_.empty()) return;
  append_chunk(ping_);
  post_flush();
}

bool ConnectionExchange::keeps_alive() const {
  const std::lock_guard lock(mutex_);
  return keep_alive_;
}

void ConnectionExchange::end(bool client_gone) {
  std::function<void()> gone;
  std::function<void(const Outcome&)> over;
  std::shared_ptr<ExchangeCarrier> carrier;  // goes last, and outside of the lock
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    carrier = std::exchange(carrier_, nullptr);
    over_ = true;
    gone_ = client_gone;
    unsent_ = {};
    outcome_.client_gone = client_gone;
    outcome_.duration = std::chrono::steady_clock::now() - begun_;
    gone = std::exchange(on_gone_, {});
    over = std::exchange(on_over_, {});
  }
  // Outside of the lock: they may ask the exchange.
  if (client_gone && gone) gone();
  if (over) over(outcome_);
}

}  // namespace cajal::http
