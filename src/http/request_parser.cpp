#include "http/request_parser.h"

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <utility>

#include "base/error.h"

namespace cajal::http {
namespace {

namespace beast = boost::beast::http;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Nothing if an escape is no escape, or hides a control character.
std::optional<std::string> percent_decoded(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      result += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    const int value = high * 16 + low;
    if (value < 0x20 || value == 0x7f) return std::nullopt;
    result += static_cast<char>(value);
    i += 2;
  }
  return result;
}

std::string text(boost::string_view view) { return {view.data(), view.size()}; }

}  // namespace

struct RequestParser::Impl {
  explicit Impl(const RequestLimits& limits) {
    parser.header_limit(limits.head_bytes);
    parser.body_limit(limits.body_bytes);
  }
  beast::request_parser<beast::string_body> parser;
  Request request;  // all but the body, from the head
};

RequestParser::RequestParser(const RequestLimits& limits) : limits_(limits), impl_(std::make_unique<Impl>(limits)) {}
RequestParser::~RequestParser() = default;

void RequestParser::fail(int status, std::string message) {
  state_ = State::failed;
  failure_ = {status, std::move(message)};
}

RequestParser::State RequestParser::push(std::string_view bytes) {
  held_ += bytes;
  // An empty line in front of a request is not one: some clients end a body with it.
  if (state_ == State::nothing) {
    while (held_.starts_with("\r\n")) held_.erase(0, 2);
    if (!held_.empty() && held_ != "\r") state_ = State::head;
  }
  if (state_ == State::head || state_ == State::body) parse();
  return state_;
}

void RequestParser::parse() {
  auto& parser = impl_->parser;
  std::size_t consumed = 0;
  while (state_ == State::head || state_ == State::body) {
    boost::system::error_code error;
    const std::string_view rest = std::string_view(held_).substr(consumed);
    if (rest.empty() && !parser.is_done()) break;
    const std::size_t taken = parser.put({rest.data(), rest.size()}, error);
    consumed += taken;
    if (error == beast::error::need_more) {
      // Of a chunked body only the line of a size and the trailer have to be here as a whole.
      if (held_.size() - consumed > limits_.head_bytes) fail(431, "a chunk's head or the trailer is too long");
      break;
    }
    if (error == beast::error::header_limit) {
      fail(431, detail::join("the head of the request has more than ", limits_.head_bytes, " bytes"));
    } else if (error == beast::error::body_limit) {
      fail(413, detail::join("the body of the request has more than ", limits_.body_bytes, " bytes"));
    } else if (error) {
      fail(400, "the request is no HTTP/1.1: " + error.message());
    } else {
      if (state_ == State::head) check_head(rest.substr(0, taken));
      if (state_ != State::failed) state_ = parser.is_done() ? State::complete : State::body;
    }
  }
  held_.erase(0, consumed);
}

// What is left open by the grammar, or allowed by it and no longer by RFC 9112.
void RequestParser::check_head(std::string_view head) {
  const auto& message = impl_->parser.get();
  if (head.find("\r\n ") != std::string_view::npos || head.find("\r\n\t") != std::string_view::npos)
    return fail(400, "a header goes on in the next line");
  std::size_t num_headers = 0, num_hosts = 0;
  for (const auto& field : message) {
    ++num_headers;
    num_hosts += field.name() == beast::field::host;
  }
  if (num_headers > limits_.num_headers)
    return fail(431, detail::join("the request has ", num_headers, " headers, expected at most ", limits_.num_headers));
  if (message.version() != 10 && message.version() != 11) return fail(400, "the request is not of HTTP/1.1");
  if (num_hosts > 1 || (num_hosts == 0 && message.version() == 11))
    return fail(400, detail::join("the request has ", num_hosts, " headers Host, expected one"));
  const bool encoded = message.count(beast::field::transfer_encoding) > 0;
  if (encoded && !impl_->parser.chunked())
    return fail(400, "Transfer-Encoding is not chunked, the only one that there is");
  if (encoded && message.version() == 10)
    return fail(400, "Transfer-Encoding in a request of HTTP/1.0, which has none");
  const std::string_view target(message.target().data(), message.target().size());
  const bool asterisk = target == "*" && message.method() == beast::verb::options;
  if (!target.starts_with('/') && !asterisk) return fail(400, "the target of the request does not begin with /");
  const std::size_t question = target.find('?');
  auto path = percent_decoded(target.substr(0, question));
  if (!path) return fail(400, "the path has an escape that is none");

  // Kept now: the parser would put the fields of a trailer among these, and RFC 9110 §6.5.1 warns of taking one for a header.
  Request& request = impl_->request;
  request.method = text(message.method_string());
  request.path = std::move(*path);
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  request.version = message.version() == 10 ? "1.0" : "1.1";
  request.keep_alive = message.keep_alive();
  for (const auto& field : message) request.headers.push_back({text(field.name_string()), text(field.value())});
}

bool RequestParser::expects_continue() const {
  if (state_ != State::body) return false;
  const auto expect = impl_->parser.get()[beast::field::expect];
  return equal_ignoring_case({expect.data(), expect.size()}, "100-continue");
}

Request RequestParser::take() {
  CAJAL_CHECK(state_ == State::complete);
  Request request = std::move(impl_->request);
  request.body = std::move(impl_->parser.get().body());
  impl_ = std::make_unique<Impl>(limits_);
  state_ = State::nothing;
  return request;
}

}  // namespace cajal::http
