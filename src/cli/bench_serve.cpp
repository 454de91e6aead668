// cajal bench serve: how soon a server answers many at once.
#include <unistd.h>

#include <array>
#include <charconv>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <tuple>

#include "base/file.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/usage_error.h"
#include "http/tls.h"
#include "load/arrivals.h"
#include "load/prompts.h"
#include "load/report.h"
#include "load/run_load.h"

namespace cajal::cli {
namespace {

constexpr std::uint64_t kMostDatasetBytes = std::uint64_t{1} << 30;
constexpr std::size_t kMostErrorsTold = 10;

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(at, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

double number_of(std::string_view flag, const std::string& text, double max) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= max))
    misuse(flag, " has '", text, "', expected a number from 0", max < 1e9 ? detail::join(" to ", max) : "");
  return value;
}

std::vector<double> percentiles_of(const LoadFlags& flags) {
  std::vector<double> result;
  for (const std::string& part : split(flags.metric_percentiles, ','))
    result.push_back(number_of("--metric-percentiles", part, 100));
  return result;
}

std::vector<std::string> metrics_of(const LoadFlags& flags) {
  constexpr std::array<std::string_view, 6> kKnown = {
      "ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue"};
  std::vector<std::string> names = split(flags.percentile_metrics, ',');
  for (const std::string& name : names)
    if (std::find(kKnown.begin(), kKnown.end(), name) == kKnown.end())
      misuse("--percentile-metrics has '", name, "', expected ttft, tpot, itl, e2el or client_queue_time");
  return names;
}

load::Goodput goodput_of(const LoadFlags& flags) {
  load::Goodput goodput;
  for (const std::string& pair : flags.goodput) {
    const std::size_t colon = pair.find(':');
    const std::string name = pair.substr(0, colon);
    auto* which = name == "ttft"   ? &goodput.ttft
                  : name == "tpot" ? &goodput.tpot
                  : name == "e2el" ? &goodput.e2el
                                   : nullptr;
    if (!which || colon == std::string::npos)
      misuse("--goodput is '", pair, "', expected ttft, tpot or e2el, a colon and milliseconds, as in ttft:200");
    *which = number_of("--goodput", pair.substr(colon + 1), 1e12) / 1000;
  }
  return goodput;
}

// "KEY=VALUE" in its parts.
std::pair<std::string, std::string> key_value(const std::string& text) {
  const std::size_t equals = text.find('=');
  return {text.substr(0, equals), text.substr(equals + 1)};
}

http::ClientOptions client_options(const Options& o) {
  const std::string& host = o.serve.host;
  const bool is_ipv6 = host.find(':') != std::string::npos;
  const std::string url = !o.load.base_url.empty()
                              ? o.load.base_url
                              : detail::join("http://", is_ipv6 ? "[" + host + "]" : host, ":", o.serve.port);
  http::ClientOptions options;
  options.server = with_context("--base-url", [&] { return http::parse_url(url); });
  if (options.server.tls) options.tls = http::tls_for_client(!o.serve.insecure, o.serve.ssl_ca_certs);
  return options;
}

std::vector<http::Header> headers_of(const LoadFlags& flags, const Environment& environment) {
  std::vector<http::Header> headers;
  const auto key = environment.find("OPENAI_API_KEY");
  if (key != environment.end() && !key->second.empty()) headers.push_back({"Authorization", "Bearer " + key->second});
  for (const std::string& header : flags.headers) {
    http::Header own;
    std::tie(own.name, own.value) = key_value(header);
    std::erase_if(headers, [&](const http::Header& h) { return http::equal_ignoring_case(h.name, own.name); });
    headers.push_back(std::move(own));
  }
  for (const http::Header& header : headers)
    for (const char c : header.name + header.value)
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
        misuse("the header ", header.name, " has a line break or a control character in it");
  return headers;
}

// The name that requests give, and where a tokenizer may be found.
struct ModelNames {
  std::string served, root;
};
ModelNames model_names(const Options& o, http::Client& client, const std::vector<http::Header>& headers) {
  ModelNames names{.root = o.common.model};
  if (!o.serve.served_model_names.empty()) names.served = o.serve.served_model_names.back();
  if (names.served.empty()) names.served = o.common.model;
  if (!names.served.empty()) return names;
  const Json models = load::get_json(client, "/v1/models", headers);
  const Json* data = models.find("data");
  if (!data || !data->is_array() || data->as_array().empty())
    fail(ErrorCode::unavailable, "the server has no model in /v1/models", remedy("name one in --model"));
  const Json& first = data->as_array()[0];
  const auto text = [&](std::string_view key) {
    const Json* value = first.find(key);
    return value && value->is_string() ? value->as_string() : std::string();
  };
  return {.served = text("id"), .root = text("root").empty() ? text("id") : text("root")};
}

Tokenizer tokenizer_of(const Options& o, const ModelNames& names, const Environment& environment) {
  if (!o.load.tokenizer.empty())
    return Tokenizer::from_folder(resolve_model(o.load.tokenizer, environment, o.common.download));
  try {
    const std::string folder = resolve_model(names.root, environment, o.common.download);
    if (Tokenizer::is_present(folder)) return Tokenizer::from_folder(folder);
  } catch (const Error&) {  // the server's model need not be here
  }
  if (names.root != "cajal-demo")
    log_info("the tokenizer of ", names.root,
             " is not here: prompts are made with the demo model's, and their lengths are in its tokens");
  return Tokenizer::from_folder(resolve_model("", environment));
}

struct Requests {
  std::vector<load::LoadRequest> measured, before;  // `before` is the test and what warms up
  std::vector<double> times;
};
Requests make_requests(const Options& o, const Tokenizer& tokenizer, std::uint64_t seed) {
  const LoadFlags& f = o.load;
  const auto count = static_cast<std::size_t>(f.num_prompts), before = static_cast<std::size_t>(f.num_warmups) + 1;
  Requests result;
  if (f.dataset_name != "random" && f.dataset_path.empty())
    misuse("--dataset-name ", f.dataset_name, " needs a file", remedy("name it in --dataset-path"));
  const std::string text = f.dataset_name == "random" ? "" : read_file(f.dataset_path, kMostDatasetBytes);
  if (f.dataset_name == "custom") {
    result.measured = load::custom_requests(tokenizer, text, f.dataset_path, count, f.custom_output_len);
  } else if (f.dataset_name == "trace") {
    result.measured = load::trace_requests(load::WordMaker(tokenizer), text, f.dataset_path, count, seed);
  } else {
    if (f.prefix_len + f.input_len == 0) misuse("--random-input-len 0 leaves prompts empty");
    // The test is no request that is measured: it would be in the server's cache already.
    result.measured = load::random_requests(load::WordMaker(tokenizer), count + before,
                                            {.input_len = f.input_len,
                                             .output_len = f.output_len,
                                             .prefix_len = f.prefix_len,
                                             .range_ratio = f.range_ratio},
                                            seed);
    result.before.assign(result.measured.begin() + static_cast<std::ptrdiff_t>(count), result.measured.end());
    result.measured.resize(count);
  }
  if (result.before.empty()) result.before.assign(before, result.measured[0]);
  if (f.dataset_name != "trace") {
    result.times = load::arrival_times(result.measured.size(), f.request_rate, f.burstiness, seed);
  } else {
    for (const load::LoadRequest& request : result.measured) result.times.push_back(request.at);
  }
  return result;
}

load::LoadTarget target_of(const Options& o, const std::string& model, std::vector<http::Header> headers) {
  load::LoadTarget target;
  target.chat = o.load.backend == "openai-chat";
  target.endpoint = !o.load.endpoint.empty() ? o.load.endpoint
                    : target.chat            ? "/v1/chat/completions"
                                             : "/v1/completions";
  if (!target.endpoint.starts_with('/')) misuse("--endpoint ", target.endpoint, " does not begin with /");
  target.model = model;
  target.headers = std::move(headers);
  // Answers of random words would end anywhere, and the load be another each time.
  target.ignore_eos = o.generate.ignore_eos || o.load.dataset_name != "custom";
  const GenerateFlags& g = o.generate;
  const auto add = [&](const char* key, const auto& value) {
    if (value) target.extra_body.emplace_back(key, Json(*value));
  };
  add("temperature", g.temperature);
  add("top_p", g.top_p);
  add("top_k", g.top_k);
  add("min_p", g.min_p);
  add("frequency_penalty", g.frequency_penalty);
  add("presence_penalty", g.presence_penalty);
  add("repetition_penalty", g.repetition_penalty);
  if (!o.load.extra_body.is_null())
    for (const auto& member : o.load.extra_body.as_object()) target.extra_body.push_back(member);
  return target;
}

// One request alone, so that what is wrong with all of them is told at once; then those that warm up.
void try_out(http::Client& client, const load::LoadTarget& target, const std::vector<load::LoadRequest>& before,
             std::optional<std::int64_t> max_concurrency) {
  const std::vector<double> at_once(before.size(), 0.0);
  const auto test = load::run_load(client, target, std::span(before).first(1), std::span(at_once).first(1), {}, {});
  if (!test.outcomes[0].success())
    fail(ErrorCode::unavailable, "a first request failed: ", test.outcomes[0].error,
         remedy("check --base-url, --endpoint, --backend and --model, and OPENAI_API_KEY"));
  if (!target.chat && test.prompt_tokens_told > 0 && test.prompt_tokens_told != before[0].prompt_len)
    log_warning("the server counts ", test.prompt_tokens_told, " tokens in a prompt of ", before[0].prompt_len,
                " here — name its tokenizer in --tokenizer");
  if (before.size() > 1)
    load::run_load(client, target, std::span(before).subspan(1), std::span(at_once).subspan(1), max_concurrency, {});
}

load::LoadRun measure(http::Client& client, const load::LoadTarget& target, const Requests& requests,
                      std::optional<std::int64_t> max_concurrency) {
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const auto progress = [&](std::size_t done) {
    if (terminal) std::cerr << "\r" << done << " of " << requests.measured.size() << " requests\033[K\r" << std::flush;
  };
  auto run = load::run_load(client, target, requests.measured, requests.times, max_concurrency, progress);
  if (terminal) std::cerr << "\033[K" << std::flush;
  std::size_t failed = 0;
  for (const load::RequestOutcome& outcome : run.outcomes)
    if (!outcome.success() && failed++ < kMostErrorsTold) log_warning("a request failed: ", outcome.error);
  if (failed == run.outcomes.size())
    fail(ErrorCode::unavailable, "all ", failed, " requests failed, the first: ", run.outcomes[0].error,
         remedy("see the server's log"));
  return run;
}

std::string date_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  std::array<char, 40> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y%m%d-%H%M%S", &local)};
}

std::string rate_word(double rate) { return std::isinf(rate) ? "inf" : to_json(Json(rate)); }

Json head_json(const Options& o, const std::string& model, const std::string& date) {
  const LoadFlags& f = o.load;
  Json json = Json::Object{{"date", date},
                           {"endpoint_type", f.backend},
                           {"backend", f.backend},
                           {"label", f.label.empty() ? Json() : Json(f.label)},
                           {"model_id", model},
                           {"tokenizer_id", f.tokenizer.empty() ? model : f.tokenizer},
                           {"num_prompts", f.num_prompts}};
  for (const std::string& item : f.metadata) {
    auto [key, value] = key_value(item);
    json.set(key, std::move(value));
  }
  json.set("request_rate", std::isinf(f.request_rate) ? Json("inf") : Json(f.request_rate));
  json.set("burstiness", std::isinf(f.burstiness) ? Json("inf") : Json(f.burstiness));
  json.set("max_concurrency", f.max_concurrency ? Json(*f.max_concurrency) : Json());
  return json;
}

void save(const LoadFlags& f, const Json& json, const std::string& model, const std::string& date) {
  const std::string base = model.substr(model.rfind('/') + 1);
  std::string name = f.result_filename;
  if (name.empty())
    name = detail::join(f.label.empty() ? f.backend : f.label, "-", rate_word(f.request_rate), "qps",
                        f.max_concurrency ? detail::join("-concurrency", *f.max_concurrency) : "", "-", base, "-", date,
                        ".json");
  std::error_code failed;
  if (!f.result_dir.empty()) std::filesystem::create_directories(f.result_dir, failed);
  const std::string path = (std::filesystem::path(f.result_dir) / name).string();
  std::ofstream file(path, std::ios::binary);
  file << to_json(json) << "\n" << std::flush;
  if (!file) fail(ErrorCode::unavailable, "cannot write ", path, remedy("name another --result-dir"));
  log_info("results are in ", path);
}

}  // namespace

void run_bench_serve(CommandContext& context) {
  const Options& o = context.options;
  const LoadFlags& f = o.load;
  const std::vector<double> percentiles = percentiles_of(f);
  const load::Goodput goodput = goodput_of(f);
  const load::ReportOptions report{.metrics = metrics_of(f),
                                   .request_rate = f.request_rate,
                                   .max_concurrency = f.max_concurrency,
                                   .goodput = goodput.asked()};
  const std::vector<http::Header> headers = headers_of(f, context.environment);
  http::Client client(client_options(o));
  const ModelNames names = model_names(o, client, headers);
  const Tokenizer tokenizer = tokenizer_of(o, names, context.environment);
  const Requests requests = make_requests(o, tokenizer, o.generate.seed.value_or(0));
  const load::LoadTarget target = target_of(o, names.served, headers);

  try_out(client, target, requests.before, f.max_concurrency);
  const load::LoadRun run = measure(client, target, requests, f.max_concurrency);
  const load::Summary summary = load::summarize(run.outcomes, run.duration, percentiles, goodput);
  const std::string date = date_now();
  Json json = head_json(o, names.served, date);
  const Json figures = load::report_json(summary, report, run.outcomes, f.save_detailed);
  for (const auto& [key, value] : figures.as_object()) json.set(key, value);
  if (f.save_result) save(f, json, names.served, date);
  context.out.write(o.json ? to_json(json) + "\n" : load::report_text(summary, report));
}

}  // namespace cajal::cli
