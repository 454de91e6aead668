#include "server/service.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

#include "api/engine_access.h"
#include "base/error.h"
#include "base/log.h"
#include "server/routes.h"

namespace cajal::server {
namespace {

constexpr std::size_t kQuickThreads = 2, kSlowThreads = 2, kMaxWaitingTasks = 1024, kMaxIdBytes = 128;

// An id of the client's choice, if it cannot harm who reads logs.
std::string request_id(const http::Request& request) {
  const std::string* wanted = request.header("X-Request-Id");
  const auto harmless = [](char c) { return c > 0x20 && c < 0x7f && c != '"' && c != '\\'; };
  if (wanted && !wanted->empty() && wanted->size() <= kMaxIdBytes &&
      std::all_of(wanted->begin(), wanted->end(), harmless))
    return *wanted;
  return random_id("req-");
}

// Takes as long wherever the two differ.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned char>(a[i] ^ (b.empty() ? 1 : b[i % b.size()]));
  return difference == 0;
}

// "localhost:3000" of "http://localhost:3000".
std::string_view authority_of(std::string_view origin) {
  const std::size_t scheme = origin.find("://");
  return scheme == std::string_view::npos ? std::string_view() : origin.substr(scheme + 3);
}

bool is_this_machine(std::string_view authority) {
  const std::size_t colon = authority.find_last_of(':');
  if (colon != std::string_view::npos && authority.find(']', colon) == std::string_view::npos)
    authority = authority.substr(0, colon);
  return authority == "localhost" || authority == "127.0.0.1" || authority == "[::1]";
}

// The value of a series without labels of its own: the text up to the end of its line.
std::string sample_of(std::string_view metrics, std::string_view name) {
  const std::string begin = detail::join("\n", name, "{");
  const std::size_t at = metrics.find(begin);
  if (at == std::string_view::npos) return "";
  const std::size_t value = metrics.find("} ", at), end = metrics.find('\n', at + 1);
  return value < end ? std::string(metrics.substr(value + 2, end - value - 2)) : "";
}

}  // namespace

Service::Service(const ServiceOptions& options)
    : options_(options),
      start_time_(std::time(nullptr)),
      quick_(std::make_unique<TaskPool>(kQuickThreads, kMaxWaitingTasks)),
      slow_(std::make_unique<TaskPool>(kSlowThreads, kMaxWaitingTasks)) {
  CAJAL_CHECK(!options.model_names.empty());
}

Service::~Service() { close(); }

void Service::set_engine(std::unique_ptr<api::Engine> engine) {
  engine_ = std::move(engine);
  running_ = engine_.get();
  loaded_ = true;
}

void Service::close() {
  draining_ = true;
  quick_.reset();
  slow_.reset();
  engine_.reset();
}

http::Response Service::error_page(const http::BadRequest& why) {
  return {.status = why.status,
          .body = to_json(protocol::to_json({.status = why.status,
                                             .code = why.status == 408   ? "request_timeout"
                                                     : why.status == 413 ? "request_too_large"
                                                                         : "bad_request",
                                             .message = why.message}))};
}

void Service::handle(const std::shared_ptr<http::Exchange>& exchange) {
  http::Request& request = exchange->request();
  const auto call = std::make_shared<Call>(exchange, request_id(request));
  ++num_calls_;
  const bool probe = request.path == "/health" || request.path == "/ready" || request.path == "/metrics";
  exchange->on_over([this, call, probe, what = request.method + " " + request.path](const http::Outcome& outcome) {
    num_refused_ += outcome.status >= 400;
    num_abandoned_ += outcome.client_gone;
    if (options_.access_log && !probe) log(call, what, outcome);
  });
  try {
    check_origin(call);
    if (request.method == "OPTIONS") return answer_preflight(call);
    std::string allowed;
    try {
      const Route& route = find_route(request.method, request.path, allowed);
      if (!route.open) check_key(call);
      if (route.needs_engine) check_ready();
      dispatch(route, call);
    } catch (const protocol::RequestError& e) {
      // Who has no key learns nothing about what there is.
      if (e.body().status == 404 || e.body().status == 405) check_key(call);
      if (!allowed.empty()) call->add_header("Allow", allowed);
      throw;
    }
  } catch (...) {
    call->refuse(current_error());
  }
}

void Service::dispatch(const Route& route, const CallPtr& call) {
  const auto run = [this, &route, call] {
    try {
      if (!call->exchange().gone()) route.handler(*this, call);
    } catch (...) {
      call->refuse(current_error());
    }
  };
  if (route.runs == Route::Runs::at_once) return route.handler(*this, call);
  TaskPool& pool = route.runs == Route::Runs::slow ? *slow_ : *quick_;
  if (!pool.add(run))
    throw protocol::RequestError(
        {.status = 429,
         .type = "rate_limit_error",
         .code = "overloaded",
         .message = detail::join(kMaxWaitingTasks, " requests wait already — try again later")});
}

void Service::run_slow(const CallPtr& call, std::function<void()> body) {
  const auto run = [call, body = std::move(body)] {
    try {
      if (!call->exchange().gone()) body();
    } catch (...) {
      call->refuse(current_error());
    }
  };
  if (!slow_->add(run))
    throw protocol::RequestError(
        {.status = 429, .type = "rate_limit_error", .code = "overloaded", .message = "too many requests wait"});
}

void Service::check_origin(const CallPtr& call) const {
  const std::string* origin = call->request().header("Origin");
  if (!origin) return;
  const auto& allowed = options_.allowed_origins;
  const auto is_allowed = [&](const std::string& o) {
    return std::find(allowed.begin(), allowed.end(), o) != allowed.end();
  };
  const std::string_view authority = authority_of(*origin);
  const bool listed = is_allowed("*") || is_allowed(*origin);
  const bool local = options_.local_only && is_this_machine(authority);
  if (listed || (local && allowed.empty())) {
    call->add_header("Access-Control-Allow-Origin", *origin);
    call->add_header("Access-Control-Expose-Headers", "X-Request-Id, X-Cajal-Ignored-Fields, Retry-After");
    call->add_header("Vary", "Origin");
    return;
  }
  // The page of this very server. Where only this machine should reach it, a name from elsewhere that leads here may not.
  const std::string* host = call->request().header("Host");
  if (host && *host == authority && (local || !options_.local_only)) return;
  throw protocol::RequestError({.status = 403,
                                .type = "permission_error",
                                .code = "origin_not_allowed",
                                .message = "pages of this origin may not use the server — see --allowed-origins"});
}

void Service::answer_preflight(const CallPtr& call) const {
  call->add_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
  call->add_header("Access-Control-Allow-Headers",
                   "Authorization, Content-Type, X-Api-Key, X-Request-Id, "
                   "Anthropic-Version, Anthropic-Beta");
  call->add_header("Access-Control-Max-Age", "600");
  call->respond({.status = 204, .content_type = ""});
}

void Service::check_key(const CallPtr& call) const {
  if (options_.api_keys.empty()) return;
  const std::string* bearer = call->request().header("Authorization");
  const std::string* plain = call->request().header("X-Api-Key");
  std::string_view given = plain ? *plain : std::string_view();
  constexpr std::string_view kBearer = "Bearer ";
  if (bearer && http::equal_ignoring_case(std::string_view(*bearer).substr(0, kBearer.size()), kBearer))
    given = std::string_view(*bearer).substr(kBearer.size());
  bool known = false;
  for (const std::string& key : options_.api_keys) known |= equal_in_constant_time(key, given);
  if (known) return;
  throw protocol::RequestError({.status = 401,
                                .type = "authentication_error",
                                .code = "invalid_api_key",
                                .message = given.empty() ? "no API key is given — send Authorization: Bearer KEY"
                                                         : "the API key is not one of this server"});
}

std::string Service::failure() const { return loaded_ ? api::EngineAccess::failure(*running_) : std::string(); }

void Service::check_ready() const {
  if (const std::string why = failure(); !why.empty())
    throw protocol::RequestError({.status = 503,
                                  .type = "service_unavailable_error",
                                  .code = "engine_failed",
                                  .message = "the engine has ended: " + why});
  if (loaded_ && !draining_) return;
  throw protocol::RequestError(
      {.status = 503,
       .type = "service_unavailable_error",
       .code = loaded_ ? "draining" : "loading",
       .message = loaded_ ? "the server is closing — ask another" : "the model is being loaded — try again soon"});
}

// Asked often enough, this sees that steps no longer end although there is work.
std::string Service::why_not_ready() {
  if (!failure().empty()) return "failed";
  if (draining_) return "draining";
  if (!loaded_) return "loading";
  const std::string text = running_->metrics_text();
  const std::string steps = sample_of(text, "vllm:iteration_tokens_total_count");
  const std::string running = sample_of(text, "vllm:num_requests_running");
  const std::lock_guard lock(watch_mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (steps != last_steps_ || running.empty() || running == "0") {
    last_steps_ = steps;
    last_change_ = now;
  }
  return now - last_change_ > options_.stall_timeout ? "stalled" : "";
}

const std::string& Service::model_name(const std::optional<std::string>& wanted) const {
  if (!wanted || wanted->empty()) return options_.model_names[0];
  for (const std::string& name : options_.model_names)
    if (name == *wanted) return name;
  throw protocol::RequestError(
      {.status = 404,
       .code = "model_not_found",
       .param = "model",
       .message = detail::join("there is no model '", *wanted, "', only '", options_.model_names[0], "'")});
}

std::string Service::metrics_text() const {
  std::string text = loaded_ ? running_->metrics_text() : std::string();
  const auto series = [&](const char* name, const char* help, std::int64_t value) {
    text += detail::join("# HELP ", name, " ", help, "\n# TYPE ", name, " counter\n", name, " ", value, "\n");
  };
  series("cajal:http_requests_total", "Requests that came.", num_calls_);
  series("cajal:http_errors_total", "Requests that were answered with a status of 400 or more.", num_refused_);
  series("cajal:http_disconnects_total", "Requests whose client left before the answer was complete.", num_abandoned_);
  return text;
}

void Service::log(const CallPtr& call, const std::string& method_and_path, const http::Outcome& outcome) {
  const CallRecord record = call->record();
  const double total_ms = std::chrono::duration<double, std::milli>(outcome.duration).count();
  const int status = outcome.client_gone ? 499 : outcome.status;  // as nginx calls it
  Json fields = Json::Object{{"request_id", call->id()},
                             {"request", method_and_path},
                             {"status", status},
                             {"duration_ms", total_ms},
                             {"response_bytes", static_cast<std::int64_t>(outcome.num_bytes)}};
  std::string words = detail::join(method_and_path, " ", status, " in ", static_cast<std::int64_t>(total_ms), " ms");
  if (record.prompt_tokens > 0) {
    fields.set("prompt_tokens", record.prompt_tokens);
    fields.set("cached_tokens", record.cached_tokens);
    fields.set("completion_tokens", record.completion_tokens);
    words += detail::join(", ", record.prompt_tokens, " tokens (", record.cached_tokens, " cached) + ",
                          record.completion_tokens);
  }
  if (record.queue_seconds) fields.set("queue_ms", *record.queue_seconds * 1e3);
  if (record.ttft_seconds) fields.set("ttft_ms", *record.ttft_seconds * 1e3);
  if (!record.finish_reason.empty()) fields.set("finish_reason", record.finish_reason);
  if (!record.error.empty()) {
    fields.set("error", record.error);
    words += ": " + record.error;
  }
  log_event(LogLevel::info, words + " [" + call->id() + "]", fields);
}

}  // namespace cajal::server
