// Of bench serve; the names are those of vLLM's benchmark.
#include <array>
#include <cmath>
#include <limits>

#include "cli/flag_tables.h"
#include "cli/usage_error.h"
#include "cli/values.h"

namespace cajal::cli {
namespace {

constexpr std::int64_t kLongest = std::int64_t{1} << 24;  // of a prompt and of an answer
constexpr std::int64_t kMostPrompts = 10'000'000;

// A number above 0, or inf.
double rate(const Given& g) {
  if (g.text == "inf") return std::numeric_limits<double>::infinity();
  return decimal(g, {.min = 0, .above_min = true});
}

std::string key_and_value(const Given& g) {
  if (g.text.find('=') == std::string::npos || g.text.starts_with('='))
    misuse(g.label, " is ", g.text, ", expected KEY=VALUE");
  return g.text;
}

constexpr auto kFlags = std::to_array<Flag>({
    {"base-url", "", "URL", kBenchServe, Group::load,
     "Where the server is, as in https://example.com. Default: http://HOST:PORT.",
     [](Options& o, const Given& g) { o.load.base_url = g.text; }},
    {"backend", "", "NAME", kBenchServe, Group::load,
     "openai (or vllm) for completions, openai-chat for chats. Default: openai.",
     [](Options& o, const Given& g) {
       o.load.backend = one_of(g, {"openai", "openai-chat", "vllm"});
     }},
    {"endpoint", "", "PATH", kBenchServe, Group::load, "Default: /v1/completions, or /v1/chat/completions of chats.",
     [](Options& o, const Given& g) { o.load.endpoint = g.text; }},
    {"tokenizer", "", "MODEL", kBenchServe, Group::load, "Whose tokenizer makes and counts prompts.",
     [](Options& o, const Given& g) { o.load.tokenizer = g.text; }},
    {"header", "", "KEY=VALUE", kBenchServe, Group::load, "Headers of every request.",
     [](Options& o, const Given& g) { o.load.headers.push_back(key_and_value(g)); }, OneOf::none, true, true},
    {"extra-body", "", "JSON", kBenchServe, Group::load, "Members of every request.",
     [](Options& o, const Given& g) { o.load.extra_body = json_object(g); }},
    {"dataset-name", "", "NAME", kBenchServe, Group::load,
     "random: words; custom: lines {\"prompt\", \"output_tokens\"} of --dataset-path; trace: lines {\"timestamp\", "
     "\"input_length\", \"output_length\", \"hash_ids\"}, each asked at its time. Default: random.",
     [](Options& o, const Given& g) {
       const std::string word = one_of(g, {"random", "custom", "trace", "timed_trace"});
       o.load.dataset_name = word == "timed_trace" ? "trace" : word;
     }},
    {"dataset-path", "", "FILE", kBenchServe, Group::load, "The file of a dataset.",
     [](Options& o, const Given& g) { o.load.dataset_path = g.text; }},
    {"num-prompts", "", "N", kBenchServe, Group::load, "Requests to send. Default: 1000.",
     [](Options& o, const Given& g) { o.load.num_prompts = integer(g, 1, kMostPrompts); }},
    {"num-warmups", "", "N", kBenchServe, Group::load, "Requests before that are not measured. Default: 0.",
     [](Options& o, const Given& g) { o.load.num_warmups = integer(g, 0, kMostPrompts); }},
    {"random-input-len", "", "N", kBenchServe, Group::load, "Tokens of a prompt. Default: 1024.",
     [](Options& o, const Given& g) { o.load.input_len = integer(g, 0, kLongest); }},
    {"random-output-len", "", "N", kBenchServe, Group::load, "Tokens of an answer. Default: 128.",
     [](Options& o, const Given& g) { o.load.output_len = integer(g, 1, kLongest); }},
    {"random-range-ratio", "", "R", kBenchServe, Group::load,
     "Lengths are drawn from N - N x R to N + N x R. Default: 0.",
     [](Options& o, const Given& g) { o.load.range_ratio = decimal(g, {.min = 0, .max = 1}); }},
    {"random-prefix-len", "", "N", kBenchServe, Group::load, "Tokens in front that all prompts share. Default: 0.",
     [](Options& o, const Given& g) { o.load.prefix_len = integer(g, 0, kLongest); }},
    {"custom-output-len", "", "N", kBenchServe, Group::load, "Tokens of an answer of custom. Default: 256.",
     [](Options& o, const Given& g) { o.load.custom_output_len = integer(g, 1, kLongest); }},
    {"request-rate", "", "R", kBenchServe, Group::load, "Requests a second; inf: all at once. Default: inf.",
     [](Options& o, const Given& g) { o.load.request_rate = rate(g); }},
    {"burstiness", "", "B", kBenchServe, Group::load,
     "1: a Poisson process; less: more bursts; more: a more even stream. Default: 1.",
     [](Options& o, const Given& g) { o.load.burstiness = rate(g); }},
    {"max-concurrency", "", "N", kBenchServe, Group::load, "Requests under way at a time. Default: all.",
     [](Options& o, const Given& g) { o.load.max_concurrency = integer(g, 1); }},

    {"percentile-metrics", "", "LIST", kBenchServe, Group::output,
     "Which of ttft, tpot, itl, e2el and client_queue_time are shown. Default: ttft,tpot,itl.",
     [](Options& o, const Given& g) { o.load.percentile_metrics = g.text; }},
    {"metric-percentiles", "", "LIST", kBenchServe, Group::output, "Which percentiles, as in 50,90,99. Default: 99.",
     [](Options& o, const Given& g) { o.load.metric_percentiles = g.text; }},
    {"goodput", "", "NAME:MS", kBenchServe, Group::output,
     "Count requests whose ttft, tpot and e2el are at most so many milliseconds, as in ttft:200 tpot:50.",
     [](Options& o, const Given& g) { o.load.goodput.push_back(g.text); }, OneOf::none, true, true},
    {"save-result", "", "", kBenchServe, Group::output, "Write the results as JSON to a file.",
     [](Options& o, const Given& g) { o.load.save_result = boolean(g); }},
    {"save-detailed", "", "", kBenchServe, Group::output, "With what came of every request.",
     [](Options& o, const Given& g) { o.load.save_detailed = boolean(g); }},
    {"result-dir", "", "DIR", kBenchServe, Group::output, "The folder of that file. Default: this one.",
     [](Options& o, const Given& g) { o.load.result_dir = g.text; }},
    {"result-filename", "", "NAME", kBenchServe, Group::output, "Its name. Default: of backend, rate, model and time.",
     [](Options& o, const Given& g) { o.load.result_filename = g.text; }},
    {"metadata", "", "KEY=VALUE", kBenchServe, Group::output, "Members to add to it.",
     [](Options& o, const Given& g) { o.load.metadata.push_back(key_and_value(g)); }, OneOf::none, true, true},
    {"label", "", "WORD", kBenchServe, Group::output, "What the results are called. Default: --backend.",
     [](Options& o, const Given& g) { o.load.label = g.text; }},
});

}  // namespace

std::span<const Flag> load_flags() { return kFlags; }

}  // namespace cajal::cli
