#pragma once
// The service: which path does what, who may ask, and an engine that answers. HTTP itself is http::Server's.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/public.h"
#include "http/exchange.h"
#include "http/request_parser.h"
#include "protocol/chat_answer.h"
#include "server/call.h"
#include "server/task_pool.h"

namespace cajal::server {

struct ServiceOptions {
  std::vector<std::string> model_names = {"cajal-demo"};  // the first is the one that answers name
  std::vector<std::string> api_keys = {};                 // empty: everybody may ask
  // Origins of pages that may read answers, or "*". Without any, pages of this machine may use a server that only this
  // machine reaches, so that no page from elsewhere can.
  std::vector<std::string> allowed_origins = {};
  bool local_only = true;                               // it listens on a loopback address
  std::optional<std::int64_t> request_timeout_ms = {};  // of a request that asks for none
  protocol::ReasoningField reasoning_field = protocol::ReasoningField::both;
  bool strict_fields = false;  // unknown fields are refused
  bool access_log = true;
  std::chrono::seconds stall_timeout{60};  // work is pending and no step ends: not ready any more
};

struct Route;

class Service {
 public:
  explicit Service(const ServiceOptions& options);
  ~Service();  // the server must have ended, and its exchanges are over

  void handle(const std::shared_ptr<http::Exchange>& exchange);  // as http::Server::Handler
  static http::Response error_page(const http::BadRequest& why);

  void set_engine(std::unique_ptr<api::Engine> engine);  // once; requests are refused before
  void begin_drain() { draining_ = true; }               // new work is refused
  void close();                                          // cancels and waits for all that runs; the engine is gone then

  const ServiceOptions& options() const { return options_; }
  api::Engine& engine() {
    return *running_;
  }  // of handlers of routes that need it, and of what they are told while it ends
  bool loaded() const { return loaded_; }
  // Why the engine can take no more requests at all, or "".
  std::string failure() const;
  // Why the service cannot take requests now, or "".
  std::string why_not_ready();
  // The name that the request means; RequestError(404) if it is another model's.
  const std::string& model_name(const std::optional<std::string>& wanted) const;
  // Runs `body` on a thread that may wait for the engine; what it throws is the answer.
  void run_slow(const CallPtr& call, std::function<void()> body);
  std::string metrics_text() const;
  std::int64_t start_time() const { return start_time_; }

 private:
  void dispatch(const Route& route, const CallPtr& call);
  void check_origin(const CallPtr& call) const;
  void check_key(const CallPtr& call) const;
  void check_ready() const;
  void answer_preflight(const CallPtr& call) const;
  void log(const CallPtr& call, const std::string& method_and_path, const http::Outcome& outcome);

  const ServiceOptions options_;
  const std::int64_t start_time_;
  std::unique_ptr<api::Engine> engine_;
  api::Engine* running_ = nullptr;  // the same; not changed while the engine ends, when its threads still ask for it
  std::atomic<bool> loaded_ = false, draining_ = false;
  std::atomic<std::int64_t> num_calls_ = 0, num_refused_ = 0, num_abandoned_ = 0;

  std::mutex watch_mutex_;  // of what follows: when steps were last seen to end
  std::string last_steps_;
  std::chrono::steady_clock::time_point last_change_ = std::chrono::steady_clock::now();

  std::unique_ptr<TaskPool> quick_, slow_;  // last: what they run uses the others
};

// What a handler throws is the answer.
using Handler = void (*)(Service&, const CallPtr&);
struct Route {
  std::string_view method, path;  // a path that ends with "/*" stands for all below it
  Handler handler;
  enum class Runs : std::uint8_t { at_once, quick, slow } runs = Runs::quick;
  bool open = false;         // needs no key
  bool needs_engine = true;  // refused while there is none, and while the service ends
};

// The endpoints, one file each.
void chat_completions(Service&, const CallPtr&);
void completions(Service&, const CallPtr&);
void responses(Service&, const CallPtr&);
void count_response_tokens(Service&, const CallPtr&);
void messages(Service&, const CallPtr&);
void count_message_tokens(Service&, const CallPtr&);
void embeddings(Service&, const CallPtr&);
void rerank(Service&, const CallPtr&);
void tokenize(Service&, const CallPtr&);
void detokenize(Service&, const CallPtr&);
void list_models(Service&, const CallPtr&);
void show_model(Service&, const CallPtr&);
void health(Service&, const CallPtr&);
void ready(Service&, const CallPtr&);
void version(Service&, const CallPtr&);
void metrics(Service&, const CallPtr&);
void page(Service&, const CallPtr&);

}  // namespace cajal::server
