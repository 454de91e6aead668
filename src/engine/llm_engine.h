#pragma once
// The engine with everything it stands on: a model, its runner, the cache's memory, a drafter, time.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/async_executor.h"
#include "engine/clock.h"
#include "engine/model.h"
#include "engine/model_runner.h"
#include "engine/observability/engine_telemetry.h"
#include "engine/scheduling/engine_core.h"
#include "engine/speculation/drafter.h"
#include "text/tokenizer.h"

namespace cajal {

struct LLMEngineOptions {
  std::int64_t max_num_seqs = 64;         // that run side by side
  std::int64_t prefill_chunk_size = 512;  // rows of one step, at most, if so many sequences have no more
  std::int64_t max_model_len = 0;         // tokens of a sequence; 0: what the model's configuration allows
  std::int64_t max_num_kv_blocks = 0;     // of the pool; 0: what max_num_seqs sequences of max_model_len need
  std::int64_t max_num_logits = 0;        // rows of one step that have logits; 0: what max_num_seqs sequences need
  std::int64_t max_num_waiting = 1024;    // sequences that wait for their first step
  bool enable_prefix_caching = true;      // never where a token's key depends on the length of the whole prompt
  bool reserve_slots = false;             // see EngineCoreOptions
  RequestLimits request_limits = {};      // see EngineCoreOptions
  bool choose_on_device = true;           // tokens, where the device can; the host chooses the same ones
  // Speculation: at most one of them.
  const Model* assistant_model = nullptr;     // must outlive the engine, and have the model's vocabulary
  std::int64_t num_assistant_tokens = 5;      // that it guesses at a time
  std::int64_t prompt_lookup_num_tokens = 0;  // guessed from the sequence's own tokens; 0: none
  std::int64_t max_assistant_kv_blocks = 0;   // of the assistant's pool; 0: as many as the model's
  std::chrono::nanoseconds step_timeout = std::chrono::minutes(10);
  std::string model_name;                                // in metrics
  StepTrace* trace = nullptr;                            // must outlive the engine; null: none
  std::function<void(const KVCacheEvent&)> on_kv_event;  // for routers; must not throw and not call the engine
};

class LLMEngine {
 public:
  // Takes the memory of the KV pool. The model, the tokenizer (may be null: no text) and the observer must outlive this.
  // Throws Error for options that make no sense or a pool that memory does not hold.
  LLMEngine(const Model& model, const Tokenizer* tokenizer, const LLMEngineOptions& options, EngineObserver& observer);
  ~LLMEngine();

  EngineCore& core() { return *core_; }
  ModelRunner& runner() { return *runner_; }
  const Clock& clock() const { return clock_; }
  const EngineMetrics& metrics() const { return *metrics_; }
  std::int64_t max_model_len() const { return runner_->limits().max_model_len; }

 private:
  SteadyClock clock_;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<AsyncExecutor> executor_;  // where the runner's steps keep their thread busy
  std::unique_ptr<Drafter> drafter_;
  std::unique_ptr<EngineMetrics> metrics_;
  std::unique_ptr<EngineTelemetry> telemetry_;
  std::unique_ptr<EngineCore> core_;
};

}  // namespace cajal
