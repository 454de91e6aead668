#include "server/call.h"

#include <array>
#include <random>
#include <utility>

#include "api/errors.h"
#include "base/error.h"
#include "base/log.h"
#include "protocol/messages_answer.h"

namespace cajal::server {
namespace {

protocol::ErrorBody error_of(const api::Error& e) {
  const std::string message = e.what();
  switch (e.code()) {
    case api::ErrorCode::invalid_argument:
    case api::ErrorCode::not_found:
    case api::ErrorCode::data_loss: return {.message = message};
    case api::ErrorCode::unsupported: return {.code = "unsupported", .message = message};
    case api::ErrorCode::out_of_memory:
    case api::ErrorCode::unavailable:
      return {.status = 503, .type = "service_unavailable_error", .code = "unavailable", .message = message};
    case api::ErrorCode::cancelled:
      return {
          .status = 503, .type = "service_unavailable_error", .code = "cancelled", .message = "the server is closing"};
    case api::ErrorCode::internal: break;
  }
  // What a bug says may hold what is nobody's business.
  log_warning("a request failed: ", message);
  return {.status = 500, .type = "server_error", .code = "internal_error", .message = "the server has made a mistake"};
}

}  // namespace

protocol::ErrorBody current_error() {
  try {
    throw;
  } catch (const protocol::RequestError& e) {
    return e.body();
  } catch (...) {
    return error_of(cajal::current_error());
  }
}

protocol::ErrorBody error_of(const api::Refusal& refusal) {
  if (refusal.code == api::ErrorCode::unavailable)
    return {.status = 429,
            .type = "rate_limit_error",
            .code = "queue_full",
            .message = detail::join(refusal.message, " — try again later")};
  return error_of(api::Error(refusal.code, refusal.message, refusal.remedy));
}

std::string random_id(std::string_view prefix) {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string id(prefix);
  for (int word = 0; word < 2; ++word) {
    std::uint64_t bits = random();
    for (int i = 0; i < 12; ++i, bits >>= 4) id += kDigits[bits & 15];
  }
  return id;
}

Call::Call(std::shared_ptr<http::Exchange> exchange, std::string id)
    : exchange_(std::move(exchange)),
      id_(std::move(id)),
      is_anthropic_(exchange_->request().path.starts_with("/v1/messages")) {
  add_header("X-Request-Id", id_);
  if (is_anthropic_) add_header("Request-Id", id_);
}

void Call::note_ignored(const std::vector<std::string>& fields, bool strict) {
  if (fields.empty()) return;
  if (strict) protocol::refuse(fields[0], " is no field of this request");
  std::string names;
  for (const std::string& field : fields) {
    if (names.size() > 500) break;
    names += (names.empty() ? "" : ", ") + field;
  }
  add_header("X-Cajal-Ignored-Fields", names);
}

void Call::respond(int status, const Json& body) { respond({.status = status, .body = to_json(body)}); }

void Call::respond(http::Response response) {
  response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
  exchange_->respond(std::move(response));
}

void Call::refuse(const protocol::ErrorBody& error) {
  record([&](CallRecord& r) { r.error = error.message; });
  if (error.status == 429 || error.status == 503) add_header("Retry-After", "1");
  if (error.status == 401) add_header("WWW-Authenticate", "Bearer");
  respond(error.status, is_anthropic_ ? protocol::anthropic_error_json(error, id_) : protocol::to_json(error));
}

void Call::begin_events(std::string_view ping) {
  http::Response head{.content_type = "text/event-stream; charset=utf-8", .headers = headers_};
  head.headers.push_back({"Cache-Control", "no-cache"});
  head.headers.push_back({"X-Accel-Buffering", "no"});
  exchange_->begin_stream(std::move(head), std::string(ping));
}

}  // namespace cajal::server
