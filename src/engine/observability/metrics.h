#pragma once
// What the engine tells about itself in numbers, under the names that vLLM gave them, so that its dashboards, routers and
// autoscalers find what they look for; what vLLM renamed stands under both names. docs/engine.md has the table.
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "engine/observability/request_timings.h"
#include "engine/request.h"

namespace cajal {

struct EngineMetricsOptions {
  std::string model_name;             // the label `model_name` of every series
  std::int64_t engine = 0;            // the label `engine`: which of the engines that share the work
  std::int64_t max_model_len = 1;     // tokens; as far as the buckets of lengths go
  std::int64_t max_draft_tokens = 0;  // of one draft; 0: nothing is guessed, and no series of guessing appear
  std::int64_t kv_block_size = 1, num_kv_blocks = 1;  // for cache_config_info
  bool enable_prefix_caching = true;                  // likewise
};

// How full the engine is.
struct EngineLoad {
  std::int64_t num_running = 0, num_waiting = 0;  // sequences
  double kv_cache_usage = 0;                      // 0 to 1: blocks in use among those that there are
};

// What one step did.
struct StepStats {
  std::int64_t num_prefill_tokens = 0;  // rows of prompts, and of what is computed again after a preemption
  std::int64_t num_decode_tokens = 0;   // rows of sequences that continue, guesses included
  std::int64_t prefix_cache_queries = 0,
               prefix_cache_hits = 0;    // tokens that were looked up, and found, since the last
  std::chrono::nanoseconds duration{};   // from its launch to its end
  std::chrono::nanoseconds host_time{};  // of the host before and after it: what the device idles
  EngineLoad load;                       // after it
};

struct FinishedSequence {
  FinishReason reason = FinishReason::stop;
  RequestTimings timings;  // finished is set
  std::int64_t num_prompt_tokens = 0;
};

// What failed and is no end of a sequence.
enum class EngineFailure {
  step,     // a step threw
  timeout,  // a step took longer than it may
  drafter,  // guessing threw; the engine went on without guesses
};

// One thread or several may record, and any number read meanwhile: nothing waits for anything, and recording allocates
// nothing. Times come as parameters.
class EngineMetrics {
 public:
  explicit EngineMetrics(const EngineMetricsOptions& options);
  ~EngineMetrics();

  // A request was taken, that asks for n sequences of at most max_tokens tokens each.
  void on_request_added(std::int64_t n, std::int64_t max_tokens);
  void on_request_refused(ErrorCode code);
  void on_preempted();
  void on_step(const StepStats& step);
  // What changed without a step, as when the last sequence is aborted.
  void on_load(const EngineLoad& load);
  // The first token of a sequence: its prompt is computed now, but for timings.num_cached_tokens found in the cache.
  void on_first_token(const RequestTimings& timings, std::int64_t num_prompt_tokens);
  // Further tokens, `seconds` after the ones before. More than one if guesses were right: they came together, and count
  // as one latency, as in vLLM.
  void on_tokens(double seconds, std::int64_t num_tokens = 1);
  // The model checked a draft. 0 <= num_accepted <= num_drafted <= max_draft_tokens
  void on_draft(std::int64_t num_drafted, std::int64_t num_accepted);
  void on_sequence_finished(const FinishedSequence& sequence);
  void on_failure(EngineFailure failure);

  // Everything, in Prometheus' text format (text/plain; version=0.0.4). Any thread may ask at any time.
  std::string prometheus_text() const;

 private:
  struct Series;
  std::unique_ptr<Series> series_;
};

}  // namespace cajal
