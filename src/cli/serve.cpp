// cajal serve: answers over HTTP as OpenAI's API does.
#include <sys/resource.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <exception>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "api/engine_access.h"
#include "api/public.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/usage_error.h"
#include "engine/export/export_folder.h"
#include "engine/ranks/rank_team.h"
#include "http/server.h"
#include "http/tls.h"
#include "server/service.h"

namespace cajal::cli {
namespace {

constexpr std::int64_t kDefaultMaxNumSeqs = 64;
constexpr const char* kDemoName = "cajal-demo";

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

std::vector<std::string> keys_of(const ServeFlags& flags) {
  std::vector<std::string> keys = flags.api_keys;
  if (flags.api_key_file.empty()) return keys;
  const std::string text = read_file(flags.api_key_file, std::uint64_t{1} << 20);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string key = text.substr(at, end - at);
    while (key.ends_with('\r') || key.ends_with(' ')) key.pop_back();
    if (!key.empty()) keys.push_back(std::move(key));
    at = end + 1;
  }
  if (keys.empty()) misuse("--api-key-file ", flags.api_key_file, " holds no key", remedy("write one a line"));
  return keys;
}

server::ServiceOptions service_options(const Options& o) {
  server::ServiceOptions options;
  const std::string& model = o.common.model;
  options.model_names = o.serve.served_model_names;
  if (options.model_names.empty()) options.model_names = {model.empty() ? kDemoName : model};
  options.api_keys = keys_of(o.serve);
  options.allowed_origins = o.serve.allowed_origins;
  options.local_only = is_loopback(o.serve.host);
  options.request_timeout_ms = o.serve.request_timeout_ms;
  options.reasoning_field = o.serve.reasoning_field == "reasoning" ? protocol::ReasoningField::reasoning
                            : o.serve.reasoning_field == "both"    ? protocol::ReasoningField::both
                                                                   : protocol::ReasoningField::reasoning_content;
  options.strict_fields = o.serve.strict_fields;
  options.access_log = o.serve.access_log;
  return options;
}

api::EngineConfig engine_config(const Options& o, const Environment& environment) {
  const CommonFlags& c = o.common;
  if (c.export_cache)
    log_warning("--export-cache has no effect in this command: give 'cajal export' a folder and serve that");
  api::EngineConfig config;
  config.model = resolve_model(c.model, environment, c.download);
  config.device = c.device;
  config.dtype = c.dtype;
  config.load_format = c.load_format;
  config.kv_cache_dtype = c.kv_cache_dtype;
  config.quantization = c.quantization;
  config.quantization_group_size = c.quantization_group_size;
  config.quantization_overrides = c.quantization_overrides;
  if (!c.hf_overrides.is_null()) config.hf_overrides = to_json(c.hf_overrides);
  config.tensor_parallel_size = c.tensor_parallel_size;
  config.expert_parallel_size = c.expert_parallel_size;
  config.capacity_factor = c.capacity_factor;
  config.threads = c.threads.value_or(0);
  config.max_model_len = c.max_model_len.value_or(0);
  // What is not said is an export's own.
  config.max_num_seqs =
      o.engine.max_num_seqs.value_or(is_export(config.model) ? config.max_num_seqs : kDefaultMaxNumSeqs);
  config.max_num_batched_tokens = o.engine.max_num_batched_tokens.value_or(config.max_num_batched_tokens);
  config.kv_cache_memory_bytes = o.engine.kv_cache_memory_bytes.value_or(0);
  config.max_num_waiting = o.serve.max_num_waiting.value_or(config.max_num_waiting);
  config.enable_prefix_caching = o.engine.enable_prefix_caching;
  config.assistant_model = o.engine.assistant_model;
  config.num_assistant_tokens = o.engine.num_assistant_tokens.value_or(config.num_assistant_tokens);
  config.prompt_lookup_num_tokens = o.engine.prompt_lookup_num_tokens.value_or(0);
  config.served_model_name =
      o.serve.served_model_names.empty() ? c.model.empty() ? kDemoName : c.model : o.serve.served_model_names[0];
  return config;
}

std::shared_ptr<http::TlsContext> tls_of(const ServeFlags& flags) {
  if (flags.ssl_certfile.empty()) {
    if (!flags.ssl_keyfile.empty() || !flags.ssl_ca_certs.empty() || flags.ssl_cert_reqs > 0)
      misuse("--ssl-keyfile, --ssl-ca-certs or --ssl-cert-reqs is given, and --ssl-certfile is not",
             remedy("name the server's certificate in --ssl-certfile"));
    return nullptr;
  }
  if (flags.ssl_cert_reqs > 0 && flags.ssl_ca_certs.empty())
    misuse("--ssl-cert-reqs ", flags.ssl_cert_reqs,
           " wants certificates of clients, and no authority is named for them", remedy("name one in --ssl-ca-certs"));
  return http::tls_for_server({.certfile = flags.ssl_certfile,
                               .keyfile = flags.ssl_keyfile,
                               .keyfile_password = flags.ssl_keyfile_password,
                               .ca_certs = flags.ssl_ca_certs,
                               .cert_reqs = flags.ssl_cert_reqs});
}

// As many connections as there may be descriptors, less those that everything else needs.
std::size_t most_connections(std::size_t wanted) {
  constexpr rlim_t kOthers = 64;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  limit.rlim_cur = limit.rlim_max;  // shells give less than they may
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t left = limit.rlim_cur > 2 * kOthers ? limit.rlim_cur - kOthers : kOthers;
  if (left < wanted) log_warning("at most ", left, " connections at a time: ulimit -n is ", limit.rlim_cur);
  return std::min<rlim_t>(left, wanted);
}

http::ServerOptions server_options(const ServeFlags& flags) {
  http::ServerOptions options;
  options.host = flags.host;
  options.port = flags.port;
  options.tls = tls_of(flags);
  options.max_connections = most_connections(options.max_connections);
  options.limits.body_bytes = flags.max_request_bytes;
  return options;
}

std::string gigabytes(std::uint64_t bytes) {
  const std::uint64_t tenths = bytes * 10 / (std::uint64_t{1} << 30);
  return tenths == 0 ? detail::join(bytes >> 20, " MiB") : detail::join(tenths / 10, ".", tenths % 10, " GiB");
}

void tell_summary(const server::Service& service, const api::ModelInfo& info, const std::string& url) {
  log_info("model ", service.options().model_names[0], " (", info.model_type, ", ", info.num_parameters / 1000000,
           "M parameters, ", info.dtype, ") on ", info.device);
  log_info("memory: ", gigabytes(info.weight_bytes), " of weights, ", gigabytes(info.kv_cache_bytes),
           " of keys and values");
  log_info("up to ", info.max_num_seqs, " sequences at a time of up to ", info.max_model_len, " tokens each");
  log_info("serving on ", url, " (", url, "/v1)");
}

void warn_if_open(const server::ServiceOptions& options, const ServeFlags& flags) {
  if (options.local_only || !options.api_keys.empty() || flags.insecure) return;
  log_warning("--host ", flags.host,
              " lets every machine that reaches this one ask without a key — give --api-key, or --insecure if that is "
              "meant");
}

// What is in force and where it came from.
void print_config(const Options& o, const api::EngineConfig& config, Output& out) {
  std::string text;
  const auto line = [&](const std::string& name, const auto& value) {
    const auto found = o.sources.find(name);
    text += detail::join(name, ": ", value, "  # ", found == o.sources.end() ? "default" : found->second, "\n");
  };
  const ServeFlags& s = o.serve;
  const auto list = [](const std::vector<std::string>& values) {
    Json::Array array(values.begin(), values.end());
    return to_json(array);
  };
  line("model", config.model);
  line("served-model-name", list(s.served_model_names));
  line("host", s.host);
  line("port", s.port);
  line("api-key", s.api_keys.empty() ? "none" : detail::join(s.api_keys.size(), " given"));
  line("api-key-file", s.api_key_file.empty() ? "none" : s.api_key_file);
  line("ssl-certfile", s.ssl_certfile.empty() ? "none" : s.ssl_certfile);
  line("ssl-keyfile", s.ssl_keyfile.empty() ? "none" : s.ssl_keyfile);
  line("ssl-keyfile-password", s.ssl_keyfile_password.empty() ? "none" : "given");
  line("ssl-ca-certs", s.ssl_ca_certs.empty() ? "none" : s.ssl_ca_certs);
  line("ssl-cert-reqs", s.ssl_cert_reqs);
  line("allowed-origins", list(s.allowed_origins));
  line("device", config.device);
  line("dtype", config.dtype);
  line("quantization", config.quantization);
  line("kv-cache-dtype", config.kv_cache_dtype);
  line("load-format", config.load_format);
  line("tensor-parallel-size", config.tensor_parallel_size.value_or(1));
  line("expert-parallel-size", config.expert_parallel_size.value_or(1));
  line("capacity-factor", config.capacity_factor ? detail::join(*config.capacity_factor) : "none");
  line("threads", config.threads);
  line("max-model-len", config.max_model_len);
  line("max-num-seqs", config.max_num_seqs);
  line("max-num-batched-tokens", config.max_num_batched_tokens);
  line("max-num-waiting", config.max_num_waiting);
  line("kv-cache-memory-bytes", config.kv_cache_memory_bytes);
  line("enable-prefix-caching", config.enable_prefix_caching ? "true" : "false");
  line("max-request-bytes", s.max_request_bytes);
  line("request-timeout-ms", s.request_timeout_ms.value_or(0));
  line("shutdown-timeout", s.shutdown_timeout.count());
  line("reasoning-field", s.reasoning_field);
  line("strict-fields", s.strict_fields ? "true" : "false");
  out.write(text);
}

// Ends a server whose ranks are lost: nothing can be asked of it any more. Requests under way are told so first.
class LossWatch {
 public:
  LossWatch(const RankTeam* ranks, http::Server& server) {
    if (ranks) thread_ = std::thread([this, ranks, &server] { run(*ranks, server); });
  }
  ~LossWatch() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
  }
  LossWatch(const LossWatch&) = delete;
  LossWatch& operator=(const LossWatch&) = delete;

 private:
  void run(const RankTeam& ranks, http::Server& server) {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, kTick, [&] { return over_; })) {
      if (ranks.failure().empty()) continue;
      log_warning("closing, for a rank is lost: ", ranks.failure());
      return server.drain(kLastWords);
    }
  }

  static constexpr auto kTick = std::chrono::milliseconds(50);
  static constexpr auto kLastWords = std::chrono::seconds(2);
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

std::unique_ptr<api::Engine> open_engine(const api::EngineConfig& config, RankTeam* ranks) {
  return ranks ? api::EngineAccess::open(config, *ranks) : std::make_unique<api::Engine>(config);
}

[[noreturn]] void throw_own(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const api::Error& e) {
    const ErrorCode code = e.code() == api::ErrorCode::not_found       ? ErrorCode::not_found
                           : e.code() == api::ErrorCode::unsupported   ? ErrorCode::unsupported
                           : e.code() == api::ErrorCode::data_loss     ? ErrorCode::data_loss
                           : e.code() == api::ErrorCode::out_of_memory ? ErrorCode::out_of_memory
                           : e.code() == api::ErrorCode::unavailable   ? ErrorCode::unavailable
                                                                       : ErrorCode::invalid_argument;
    throw Error(code, e.message(), e.remedy());
  }
}

}  // namespace

void run_serve(CommandContext& context) {
  const Options& o = context.options;
  const server::ServiceOptions options = service_options(o);
  const api::EngineConfig config = engine_config(o, context.environment);
  if (o.serve.print_config) return print_config(o, config, context.out);
  api::set_log_level(static_cast<api::LogLevel>(o.common.log_level));
  warn_if_open(options, o.serve);

  server::Service service(options);
  http::Server server(
      server_options(o.serve), [&](const auto& exchange) { service.handle(exchange); }, server::Service::error_page);
  int signals = 0;
  server.on_signals([&](int number) {
    if (signals++ > 0) {
      log_warning("ending at once");
      std::_Exit(128 + number);
    }
    log_info("closing: requests under way have ", o.serve.shutdown_timeout.count(), " s to end");
    service.begin_drain();
    server.drain(o.serve.shutdown_timeout);
  });
  // Who asks how it is gets an answer while the model is loaded, which takes minutes for a large one.
  std::exception_ptr failure;
  std::thread loading([&] {
    try {
      auto engine = open_engine(config, context.ranks);
      tell_summary(service, engine->info(), server.url());
      service.set_engine(std::move(engine));
    } catch (...) {
      failure = std::current_exception();
      server.stop();
    }
  });
  {
    const LossWatch watch(context.ranks, server);
    server.run();
  }
  loading.join();
  service.close();
  if (failure) throw_own(failure);
  if (const std::string lost = context.ranks ? context.ranks->failure() : ""; !lost.empty())
    fail(ErrorCode::unavailable, lost, remedy("start all ranks again"));
}

}  // namespace cajal::cli
