#pragma once
// One request to the service, and what is to be remembered of it.
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/public.h"
#include "base/json.h"
#include "http/exchange.h"
#include "protocol/answers.h"
#include "protocol/request_error.h"

namespace cajal::server {

// For the log.
struct CallRecord {
  std::int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  std::string finish_reason, error;
  std::optional<double> queue_seconds, ttft_seconds;
};

class Call {
 public:
  Call(std::shared_ptr<http::Exchange> exchange, std::string id);

  http::Exchange& exchange() { return *exchange_; }
  http::Request& request() { return exchange_->request(); }
  const std::string& id() const { return id_; }  // X-Request-Id

  void add_header(std::string name, std::string value) { headers_.push_back({std::move(name), std::move(value)}); }
  // Names the fields of a request that nobody knows, in a header; refuses them if `strict`.
  void note_ignored(const std::vector<std::string>& fields, bool strict);

  void respond(int status, const Json& body);
  void respond(http::Response response);
  void refuse(const protocol::ErrorBody& error);
  void begin_events(std::string_view ping = protocol::kPing);  // text/event-stream

  // Any thread.
  template <class Change>
  void record(Change&& change) {
    const std::lock_guard lock(mutex_);
    change(record_);
  }
  CallRecord record() const {
    const std::lock_guard lock(mutex_);
    return record_;
  }

 private:
  const std::shared_ptr<http::Exchange> exchange_;
  const std::string id_;
  const bool is_anthropic_;  // its client reads errors as Anthropic writes them
  std::vector<http::Header> headers_;
  mutable std::mutex mutex_;
  CallRecord record_;
};

using CallPtr = std::shared_ptr<Call>;

// What is being handled, as an answer. To be called in a catch block.
protocol::ErrorBody current_error();
protocol::ErrorBody error_of(const api::Refusal& refusal);

std::string random_id(std::string_view prefix);  // "chatcmpl-4f…"

}  // namespace cajal::server
