#include "engine/observability/metrics.h"

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/observability/prometheus.h"

namespace cajal {

using prometheus::buckets_1_2_5;
using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Label;
using prometheus::TextWriter;

namespace {

// The words of vLLM's label finished_reason, which dashboards tell apart.
enum class FinishedReason { stop, length, abort, error };
constexpr std::string_view kFinishedReasons[] = {"stop", "length", "abort", "error"};

FinishedReason finished_reason(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return FinishedReason::stop;
    case FinishReason::length: return FinishedReason::length;
    case FinishReason::interrupted:
    case FinishReason::deadline_exceeded: return FinishedReason::abort;
    case FinishReason::numerical_error:
    case FinishReason::error: return FinishedReason::error;
  }
  return FinishedReason::error;
}

constexpr std::size_t kNumFinishReasons = std::size_t{static_cast<std::size_t>(FinishReason::error)} + 1;
constexpr FinishReason kFailedReasons[] = {FinishReason::numerical_error, FinishReason::deadline_exceeded,
                                           FinishReason::error};
constexpr std::string_view kEngineFailures[] = {"step", "timeout", "drafter"};
// A request is refused because of what it asks, or because there is no room for it.
constexpr std::string_view kRefusals[] = {"invalid", "unavailable"};

constexpr double kFirstTokenSeconds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
                                         1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
constexpr double kTokenSeconds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                                    0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
constexpr double kRequestSeconds[] = {0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
                                      30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
constexpr double kStepTokens[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
constexpr double kParallelSequences[] = {1, 2, 5, 10, 20};
// From a step of the smallest model on a GPU to a chunk of a large one on a CPU; and what the host adds.
constexpr double kStepSeconds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                   0.25,   0.5,   1.0,    2.5,   5.0,  10.0,  30.0, 60.0};
constexpr double kHostSeconds[] = {0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005,
                                   0.001,   0.0025,   0.005,   0.01,   0.1,     1.0};

double seconds(std::chrono::nanoseconds t) { return std::chrono::duration<double>(t).count(); }

void observe(Histogram& histogram, std::optional<double> value) {
  if (value) histogram.observe(*value);
}

}  // namespace

struct EngineMetrics::Series {
  explicit Series(const EngineMetricsOptions& o)
      : options(o),
        prompt_length(buckets_1_2_5(o.max_model_len)),
        generation_length(buckets_1_2_5(o.max_model_len)),
        max_tokens(buckets_1_2_5(o.max_model_len)),
        accepted_at(static_cast<std::size_t>(o.max_draft_tokens)) {}

  EngineMetricsOptions options;

  Gauge running, waiting, kv_cache_usage;
  Counter prefix_cache_queries, prefix_cache_hits, preemptions;
  Counter prompt_tokens, cached_prompt_tokens, generation_tokens;
  std::array<Counter, std::size(kFinishedReasons)> finished;
  Histogram iteration_tokens{kStepTokens};
  Histogram first_token{kFirstTokenSeconds}, inter_token{kTokenSeconds}, per_output_token{kTokenSeconds};
  Histogram e2e{kRequestSeconds}, queue{kRequestSeconds}, inference{kRequestSeconds}, prefill{kRequestSeconds},
      decode{kRequestSeconds};
  Histogram prompt_length, generation_length, max_tokens, n{kParallelSequences};
  Counter drafts, draft_tokens, accepted_tokens;
  std::vector<Counter> accepted_at;  // [max_draft_tokens]

  Histogram step_duration{kStepSeconds}, step_host_time{kHostSeconds};
  Counter prefill_rows, decode_rows;
  std::array<Counter, kNumFinishReasons> ended;
  std::array<Counter, std::size(kRefusals)> refused;
  std::array<Counter, std::size(kEngineFailures)> failures;

  void write_load(TextWriter& out) const;
  void write_waiting_by_reason(TextWriter& out) const;
  void write_tokens(TextWriter& out) const;
  void write_latencies(TextWriter& out) const;
  void write_requests(TextWriter& out) const;
  void write_drafts(TextWriter& out) const;
  void write_own(TextWriter& out) const;
};

EngineMetrics::EngineMetrics(const EngineMetricsOptions& options) : series_(std::make_unique<Series>(options)) {}
EngineMetrics::~EngineMetrics() = default;

void EngineMetrics::on_request_added(std::int64_t n, std::int64_t max_tokens) {
  series_->n.observe(static_cast<double>(n));
  series_->max_tokens.observe(static_cast<double>(max_tokens));
}

void EngineMetrics::on_request_refused(ErrorCode code) {
  series_->refused[code == ErrorCode::unavailable ? 1 : 0].add();
}

void EngineMetrics::on_preempted() { series_->preemptions.add(); }

void EngineMetrics::on_step(const StepStats& step) {
  Series& s = *series_;
  s.iteration_tokens.observe(static_cast<double>(step.num_prefill_tokens + step.num_decode_tokens));
  s.prefill_rows.add(step.num_prefill_tokens);
  s.decode_rows.add(step.num_decode_tokens);
  s.prefix_cache_queries.add(step.prefix_cache_queries);
  s.prefix_cache_hits.add(step.prefix_cache_hits);
  s.step_duration.observe(seconds(step.duration));
  s.step_host_time.observe(seconds(step.host_time));
  on_load(step.load);
}

void EngineMetrics::on_load(const EngineLoad& load) {
  series_->running.set(static_cast<double>(load.num_running));
  series_->waiting.set(static_cast<double>(load.num_waiting));
  series_->kv_cache_usage.set(load.kv_cache_usage);
}

void EngineMetrics::on_first_token(const RequestTimings& timings, std::int64_t num_prompt_tokens) {
  observe(series_->first_token, timings.ttft_seconds());
  series_->prompt_tokens.add(num_prompt_tokens);
  series_->cached_prompt_tokens.add(timings.num_cached_tokens);
  series_->generation_tokens.add();
}

void EngineMetrics::on_tokens(double seconds, std::int64_t num_tokens) {
  series_->inter_token.observe(seconds);
  series_->generation_tokens.add(num_tokens);
}

void EngineMetrics::on_draft(std::int64_t num_drafted, std::int64_t num_accepted) {
  Series& s = *series_;
  CAJAL_CHECK(0 <= num_accepted && num_accepted <= num_drafted && num_drafted <= s.options.max_draft_tokens,
              num_accepted, " of ", num_drafted, " guesses accepted, at most ", s.options.max_draft_tokens);
  s.drafts.add();
  s.draft_tokens.add(num_drafted);
  s.accepted_tokens.add(num_accepted);
  for (std::int64_t i = 0; i < num_accepted; ++i) s.accepted_at[static_cast<std::size_t>(i)].add();
}

void EngineMetrics::on_sequence_finished(const FinishedSequence& sequence) {
  Series& s = *series_;
  const RequestTimings& t = sequence.timings;
  CAJAL_CHECK(t.finished, "a sequence that is finished has no time when it was");
  s.finished[static_cast<std::size_t>(finished_reason(sequence.reason))].add();
  s.ended[static_cast<std::size_t>(sequence.reason)].add();
  observe(s.e2e, t.e2e_seconds());
  observe(s.queue, t.queue_seconds());
  observe(s.inference, t.inference_seconds());
  observe(s.prefill, t.prefill_seconds());
  observe(s.decode, t.decode_seconds());
  observe(s.per_output_token, t.tpot_seconds());
  s.prompt_length.observe(static_cast<double>(sequence.num_prompt_tokens));
  s.generation_length.observe(static_cast<double>(t.num_generation_tokens));
}

void EngineMetrics::on_failure(EngineFailure failure) { series_->failures[static_cast<std::size_t>(failure)].add(); }

namespace {

template <class Metric>
void write(TextWriter& out, std::string_view name, std::string_view help, const Metric& metric) {
  constexpr bool kIsCounter = std::is_same_v<Metric, Counter>, kIsGauge = std::is_same_v<Metric, Gauge>;
  out.begin(name, kIsCounter ? "counter" : kIsGauge ? "gauge" : "histogram", help);
  out.sample(metric);
}

void write_labelled(TextWriter& out, const Counter& counter, std::string_view label, std::string_view value) {
  const Label labels[] = {{label, value}};
  out.sample(counter, labels);
}

}  // namespace

void EngineMetrics::Series::write_load(TextWriter& out) const {
  write(out, "vllm:num_requests_running", "Sequences that run.", running);
  write(out, "vllm:num_requests_waiting", "Sequences that wait to run.", waiting);
  write_waiting_by_reason(out);
  write(out, "vllm:kv_cache_usage_perc", "KV cache blocks in use, 1 is all of them.", kv_cache_usage);
  write(out, "vllm:gpu_cache_usage_perc", "The older name of vllm:kv_cache_usage_perc.", kv_cache_usage);
  write(out, "vllm:prefix_cache_queries", "Prompt tokens that were looked up in the prefix cache.",
        prefix_cache_queries);
  write(out, "vllm:gpu_prefix_cache_queries", "The older name of vllm:prefix_cache_queries.", prefix_cache_queries);
  write(out, "vllm:prefix_cache_hits", "Prompt tokens that the prefix cache had.", prefix_cache_hits);
  write(out, "vllm:gpu_prefix_cache_hits", "The older name of vllm:prefix_cache_hits.", prefix_cache_hits);
  write(out, "vllm:num_preemptions", "Sequences that lost their blocks to others and began anew.", preemptions);

  out.begin("vllm:cache_config_info", "gauge", "How the KV cache is laid out.");
  Gauge one;
  one.set(1);
  const std::string block_size = std::to_string(options.kv_block_size), blocks = std::to_string(options.num_kv_blocks);
  const Label labels[] = {{"block_size", block_size},
                          {"num_gpu_blocks", blocks},
                          {"enable_prefix_caching", options.enable_prefix_caching ? "True" : "False"}};
  out.sample(one, labels);
}

// All that wait here wait for room; vLLM has others that wait for something else, such as blocks from another machine.
void EngineMetrics::Series::write_waiting_by_reason(TextWriter& out) const {
  const Gauge none;
  out.begin("vllm:num_requests_waiting_by_reason", "gauge", "Likewise, by what they wait for.");
  const Label capacity[] = {{"reason", "capacity"}}, deferred[] = {{"reason", "deferred"}};
  out.sample(waiting, capacity);
  out.sample(none, deferred);
}

void EngineMetrics::Series::write_tokens(TextWriter& out) const {
  write(out, "vllm:prompt_tokens", "Prompt tokens of sequences that got their first token.", prompt_tokens);
  write(out, "vllm:generation_tokens", "Tokens that were generated.", generation_tokens);
  write(out, "vllm:iteration_tokens_total", "Tokens of a step.", iteration_tokens);
}

void EngineMetrics::Series::write_latencies(TextWriter& out) const {
  write(out, "vllm:time_to_first_token_seconds", "From arrival to the first token.", first_token);
  write(out, "vllm:inter_token_latency_seconds", "From one token of a sequence to the next.", inter_token);
  write(out, "vllm:time_per_output_token_seconds", "The older name of vllm:inter_token_latency_seconds.", inter_token);
  write(out, "vllm:request_time_per_output_token_seconds", "Mean time of a sequence's tokens but the first.",
        per_output_token);
  write(out, "vllm:e2e_request_latency_seconds", "From arrival to the end.", e2e);
  write(out, "vllm:request_queue_time_seconds", "From arrival until first scheduled.", queue);
  write(out, "vllm:request_inference_time_seconds", "From first scheduled to the last token.", inference);
  write(out, "vllm:request_prefill_time_seconds", "From first scheduled to the first token.", prefill);
  write(out, "vllm:request_decode_time_seconds", "From the first token to the last.", decode);
}

void EngineMetrics::Series::write_requests(TextWriter& out) const {
  out.begin("vllm:request_success", "counter", "Sequences that ended, by how.");
  for (std::size_t i = 0; i < finished.size(); ++i)
    write_labelled(out, finished[i], "finished_reason", kFinishedReasons[i]);
  write(out, "vllm:request_prompt_tokens", "Prompt tokens of a sequence that ended.", prompt_length);
  write(out, "vllm:request_generation_tokens", "Generated tokens of a sequence that ended.", generation_length);
  write(out, "vllm:request_params_n", "Sequences that a request asks for.", n);
  write(out, "vllm:request_params_max_tokens", "Tokens that a request allows each sequence.", max_tokens);
}

void EngineMetrics::Series::write_drafts(TextWriter& out) const {
  if (accepted_at.empty()) return;
  write(out, "vllm:spec_decode_num_drafts", "Drafts that the model checked.", drafts);
  write(out, "vllm:spec_decode_num_draft_tokens", "Guessed tokens in them.", draft_tokens);
  write(out, "vllm:spec_decode_num_accepted_tokens", "Guessed tokens that were right.", accepted_tokens);
  out.begin("vllm:spec_decode_num_accepted_tokens_per_pos", "counter", "Likewise, by their position in the draft.");
  for (std::size_t i = 0; i < accepted_at.size(); ++i)
    write_labelled(out, accepted_at[i], "position", std::to_string(i));
}

void EngineMetrics::Series::write_own(TextWriter& out) const {
  write(out, "cajal:step_duration_seconds", "From the launch of a step to its end.", step_duration);
  write(out, "cajal:step_host_seconds", "What the host does around a step.", step_host_time);
  out.begin("cajal:step_tokens", "counter", "Tokens that steps computed.");
  write_labelled(out, prefill_rows, "phase", "prefill");
  write_labelled(out, decode_rows, "phase", "decode");
  write(out, "cajal:cached_prompt_tokens", "Prompt tokens that were found in the cache and not computed.",
        cached_prompt_tokens);
  out.begin("cajal:request_failures", "counter", "Sequences that ended without having been served, by why.");
  for (const FinishReason reason : kFailedReasons)
    write_labelled(out, ended[static_cast<std::size_t>(reason)], "reason", to_string(reason));
  out.begin("cajal:requests_refused", "counter", "Requests that were not taken: senseless, or no room.");
  for (std::size_t i = 0; i < refused.size(); ++i) write_labelled(out, refused[i], "reason", kRefusals[i]);
  out.begin("cajal:engine_failures", "counter", "Failures of the engine itself.");
  for (std::size_t i = 0; i < failures.size(); ++i) write_labelled(out, failures[i], "kind", kEngineFailures[i]);
}

std::string EngineMetrics::prometheus_text() const {
  const std::string engine = std::to_string(series_->options.engine);
  const Label labels[] = {{"engine", engine}, {"model_name", series_->options.model_name}};
  TextWriter out(labels);
  series_->write_load(out);
  series_->write_tokens(out);
  series_->write_latencies(out);
  series_->write_requests(out);
  series_->write_drafts(out);
  series_->write_own(out);
  return out.take();
}

}  // namespace cajal
