#include "engine/llm_engine.h"

#include <algorithm>

#include "base/checked.h"
#include "engine/speculation/assistant_drafter.h"
#include "engine/speculation/prompt_lookup_drafter.h"
#include "models/rope.h"

namespace cajal {
namespace {

std::int64_t num_guesses(const LLMEngineOptions& o) {
  return o.assistant_model ? o.num_assistant_tokens : o.prompt_lookup_num_tokens;
}

RunnerLimits limits_of(const Model& model, const LLMEngineOptions& o) {
  RunnerLimits limits;
  limits.max_num_seqs = o.max_num_seqs;
  limits.max_num_batched_tokens = std::max(o.prefill_chunk_size, o.max_num_seqs);
  limits.max_num_logits = std::min(limits.max_num_batched_tokens,
                                   o.max_num_logits ? o.max_num_logits : o.max_num_seqs * (1 + num_guesses(o)));
  limits.max_model_len = o.max_model_len ? o.max_model_len : default_max_model_len(model.config());
  const std::int64_t all = o.max_num_seqs * ceil_div(limits.max_model_len, kKvBlockSize);
  limits.choose_on_device = o.choose_on_device;
  limits.num_kv_blocks = 1 + (o.max_num_kv_blocks ? std::min(all, o.max_num_kv_blocks) : all);
  return limits;
}

// Where the frequencies go by the length of the whole prompt, a longer one has other keys for the same tokens.
bool keys_depend_on_length(const Qwen3Config& config) {
  return rotary_table(config.rope, config.head_dim, config.max_position_embeddings).original_length > 0;
}

std::unique_ptr<Drafter> make_drafter(const Model& model, const LLMEngineOptions& o, const RunnerLimits& limits) {
  if (o.assistant_model)
    return std::make_unique<AssistantDrafter>(
        *o.assistant_model, model.config().vocab_size,
        AssistantOptions{
            .num_assistant_tokens = o.num_assistant_tokens,
            .max_num_seqs = limits.max_num_seqs,
            .prefill_chunk_size = o.prefill_chunk_size,
            .max_model_len = std::min(limits.max_model_len, default_max_model_len(o.assistant_model->config())),
            .max_num_kv_blocks = o.max_assistant_kv_blocks ? o.max_assistant_kv_blocks : limits.num_kv_blocks - 1});
  if (o.prompt_lookup_num_tokens > 0)
    return std::make_unique<PromptLookupDrafter>(
        PromptLookupOptions{.prompt_lookup_num_tokens = o.prompt_lookup_num_tokens});
  return nullptr;
}

}  // namespace

LLMEngine::LLMEngine(const Model& model, const Tokenizer* tokenizer, const LLMEngineOptions& options,
                     EngineObserver& observer) {
  const RunnerLimits limits = limits_of(model, options);
  EngineCoreOptions core;
  core.max_num_seqs = limits.max_num_seqs;
  core.max_num_batched_tokens = limits.max_num_batched_tokens;
  core.prefill_chunk_size = options.prefill_chunk_size;
  core.max_model_len = limits.max_model_len;
  core.max_num_waiting = options.max_num_waiting;
  core.num_kv_blocks = limits.num_kv_blocks;
  core.enable_prefix_caching = options.enable_prefix_caching && !keys_depend_on_length(model.config());
  core.reserve_slots = options.reserve_slots;
  core.step_timeout = options.step_timeout;
  core.on_kv_event = options.on_kv_event;
  core.request_limits = options.request_limits;
  runner_ = std::make_unique<ModelRunner>(model, limits);
  if (!model.backend().steps_run_alone())
    executor_ =
        std::make_unique<AsyncExecutor>(*runner_, limits.max_num_seqs * ceil_div(limits.max_model_len, kKvBlockSize));
  Executor& executor = executor_ ? static_cast<Executor&>(*executor_) : *runner_;
  drafter_ = make_drafter(model, options, limits);
  metrics_ = std::make_unique<EngineMetrics>(
      EngineMetricsOptions{.model_name = options.model_name.empty() ? model.name() : options.model_name,
                           .max_model_len = core.max_model_len,
                           .max_draft_tokens = drafter_ ? drafter_->max_draft_tokens() : 0,
                           .kv_block_size = core.kv_block_size,
                           .num_kv_blocks = core.num_kv_blocks - 1,
                           .enable_prefix_caching = core.enable_prefix_caching});
  telemetry_ = std::make_unique<EngineTelemetry>(observer, metrics_.get(), options.trace);
  core_ = std::make_unique<EngineCore>(core, EngineCore::Parts{.executor = executor,
                                                               .clock = clock_,
                                                               .observer = *telemetry_,
                                                               .tokenizer = tokenizer,
                                                               .drafter = drafter_.get(),
                                                               .threads = &model.backend().host_threads()});
  telemetry_->watch(*core_);
}

LLMEngine::~LLMEngine() = default;

}  // namespace cajal
