#include "load/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/error.h"

namespace cajal::load {
namespace {

constexpr std::size_t kWidth = 50;

struct Metric {
  std::string_view key, name, heading;
  const Distribution* values;
};

std::vector<Metric> shown_metrics(const Summary& s, const ReportOptions& options) {
  std::vector<Metric> all{{"ttft", "TTFT", "Time to First Token", &s.ttft},
                          {"tpot", "TPOT", "Time per Output Token (excl. 1st token)", &s.tpot},
                          {"itl", "ITL", "Inter-token Latency", &s.itl},
                          {"e2el", "E2EL", "End-to-end Latency", &s.e2el}};
  if (options.max_concurrency)
    all.push_back({"client_queue_time", "Client Queue Time", "Client-side Queueing", &s.client_queue_time});
  if (options.max_concurrency && !std::isinf(options.request_rate))
    all.push_back({"e2el_including_client_queue", "E2EL incl. Client Queue", "Queue-inclusive End-to-end Latency",
                   &s.e2el_including_client_queue});
  std::erase_if(all, [&](const Metric& m) {
    return std::find(options.metrics.begin(), options.metrics.end(), m.key) == options.metrics.end();
  });
  return all;
}

std::string heading(std::string_view text, char line) {
  const std::size_t around = kWidth - std::min(text.size(), kWidth), left = around / 2;
  return detail::join(std::string(left, line), text, std::string(around - left, line), "\n");
}

std::string cell(const std::string& label, const std::string& value) {
  char text[128];
  std::snprintf(text, sizeof text, "%-40s %-10s\n", label.c_str(), value.c_str());
  return text;
}
std::string count(const std::string& label, std::int64_t value) { return cell(label, std::to_string(value)); }
std::string number(const std::string& label, double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f", value);
  return cell(label, text);
}

// "99", "99.9"
std::string percent_word(double p) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", p);
  return text;
}

}  // namespace

std::string report_text(const Summary& s, const ReportOptions& options) {
  std::string text = heading(" Serving Benchmark Result ", '=');
  text += count("Successful requests:", s.completed) + count("Failed requests:", s.failed);
  if (options.max_concurrency) text += count("Maximum request concurrency:", *options.max_concurrency);
  if (!std::isinf(options.request_rate)) text += number("Request rate configured (RPS):", options.request_rate);
  text += number("Benchmark duration (s):", s.duration) + count("Total input tokens:", s.total_input_tokens) +
          count("Total generated tokens:", s.total_output_tokens) +
          number("Request throughput (req/s):", s.request_throughput());
  if (options.goodput) text += number("Request goodput (req/s):", s.request_goodput());
  text += number("Output token throughput (tok/s):", s.output_throughput()) +
          number("Peak output token throughput (tok/s):", s.max_output_tokens_per_s) +
          number("Peak concurrent requests:", static_cast<double>(s.max_concurrent_requests)) +
          number("Total token throughput (tok/s):", s.total_token_throughput());
  for (const Metric& m : shown_metrics(s, options)) {
    const std::string name(m.name);
    text += heading(m.heading, '-') + number("Mean " + name + " (ms):", m.values->mean * 1000) +
            number("Median " + name + " (ms):", m.values->median * 1000);
    for (const auto& [p, value] : m.values->percentiles)
      text += number("P" + percent_word(p) + " " + name + " (ms):", value * 1000);
  }
  return text + std::string(kWidth, '=') + "\n";
}

Json report_json(const Summary& s, const ReportOptions& options, std::span<const RequestOutcome> outcomes,
                 bool detailed) {
  Json json = Json::Object{{"duration", s.duration},
                           {"completed", s.completed},
                           {"failed", s.failed},
                           {"total_input_tokens", s.total_input_tokens},
                           {"total_output_tokens", s.total_output_tokens},
                           {"request_throughput", s.request_throughput()},
                           {"request_goodput", options.goodput ? Json(s.request_goodput()) : Json()},
                           {"output_throughput", s.output_throughput()},
                           {"total_token_throughput", s.total_token_throughput()},
                           {"max_output_tokens_per_s", s.max_output_tokens_per_s},
                           {"max_concurrent_requests", s.max_concurrent_requests}};
  for (const Metric& m : shown_metrics(s, options)) {
    const std::string end = detail::join("_", m.key, "_ms");
    json.set("mean" + end, m.values->mean * 1000);
    json.set("median" + end, m.values->median * 1000);
    json.set("std" + end, m.values->std * 1000);
    for (const auto& [p, value] : m.values->percentiles) json.set("p" + percent_word(p) + end, value * 1000);
  }
  if (!detailed) return json;
  const auto list = [&](std::string_view key, auto&& value) {
    Json::Array values;
    for (const RequestOutcome& o : outcomes) values.push_back(value(o));
    json.set(key, std::move(values));
  };
  list("input_lens", [](const RequestOutcome& o) { return Json(o.prompt_len); });
  list("output_lens", [](const RequestOutcome& o) { return Json(o.success() ? o.output_tokens : std::int64_t{0}); });
  list("ttfts", [](const RequestOutcome& o) { return Json(o.ttft); });
  list("itls", [](const RequestOutcome& o) { return Json(Json::Array(o.itl.begin(), o.itl.end())); });
  list("latencies", [](const RequestOutcome& o) { return Json(o.latency); });
  list("start_times", [](const RequestOutcome& o) { return Json(o.start); });
  list("queue_times", [](const RequestOutcome& o) { return Json(o.client_queue_time); });
  list("generated_texts", [](const RequestOutcome& o) { return Json(o.generated_text); });
  list("errors", [](const RequestOutcome& o) { return Json(o.error); });
  return json;
}

}  // namespace cajal::load
