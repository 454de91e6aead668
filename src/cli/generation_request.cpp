#include "cli/generation_request.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/checked.h"
#include "base/log.h"
#include "cli/usage_error.h"
#include "engine/counter_rng.h"
#include "engine/export/export_limits.h"
#include "engine/generation_defaults.h"
#include "engine/inspect.h"
#include "engine/structured_output/request_constraints.h"

namespace cajal::cli {
namespace {

std::vector<std::int32_t> ending_tokens(const GenerateFlags& flags, const Model& model) {
  if (flags.ignore_eos) return {};
  const auto& own = model.generation_config().eos_token_id;
  return own.empty() ? model.config().eos_token_id : own;
}

void check_room(const Session& session, std::int64_t prompt_tokens, std::int64_t max_new_tokens, bool asked) {
  const std::int64_t room = session.max_model_len - prompt_tokens;
  if (room < 1)
    fail(ErrorCode::invalid_argument, "the prompt has ", prompt_tokens, " tokens and the model takes ",
         session.max_model_len, " with the answer", remedy("shorten the prompt"));
  if (asked && max_new_tokens > room)
    log_warning("--max-new-tokens is ", max_new_tokens, ", and after the prompt there is room for ", room);
}

}  // namespace

SamplingParams resolve_sampling(const GenerateFlags& flags, const GenerationConfig& config) {
  SamplingWishes wishes;
  wishes.temperature = flags.temperature;
  wishes.top_k = flags.top_k;
  wishes.top_p = flags.top_p;
  wishes.min_p = flags.min_p;
  wishes.repetition_penalty = flags.repetition_penalty;
  wishes.presence_penalty = flags.presence_penalty;
  wishes.frequency_penalty = flags.frequency_penalty;
  SamplingParams params = cajal::resolve_sampling(wishes, config);
  params.seed = flags.seed ? *flags.seed : draw_seed();
  return params;
}

TokenConstraints make_constraints(const GenerateFlags& flags, const Session& session, bool may_think) {
  ConstraintWishes wishes;
  if (flags.structured_outputs != StructuredOutputs()) wishes.structured_outputs = flags.structured_outputs;
  wishes.min_tokens = flags.min_tokens;
  wishes.thinking_token_budget = flags.thinking_token_budget;
  wishes.may_think = may_think;
  wishes.ignore_eos = flags.ignore_eos;
  const Tokenizer* tokenizer = session.tokenizer ? &*session.tokenizer : nullptr;
  return RequestConstraints(tokenizer, session.model->config().vocab_size, ending_tokens({}, *session.model))
      .make(wishes);
}

EngineRequest make_request(const GenerateFlags& flags, const Session& session, std::vector<std::int32_t> prompt,
                           const TokenConstraints& constraints) {
  const Model& model = *session.model;
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  EngineRequest result;
  result.n = static_cast<std::uint32_t>(flags.num_return_sequences);
  SequenceRequest& request = result.sequence;
  request.prompt = std::move(prompt);
  request.sampling = resolve_sampling(flags, model.generation_config());
  request.max_new_tokens = resolve_max_new_tokens(flags.max_new_tokens, model.generation_config(), prompt_tokens);
  request.eos_token_ids = ending_tokens(flags, model);
  request.stop = flags.stop;
  request.num_logprobs = flags.logprobs.value_or(-1);
  request.constraints = constraints;
  if (constraints.thinking) request.constraints.in_thought = ends_in_thought(*constraints.thinking, request.prompt);
  check_constraints(request.constraints, model.config().vocab_size, request.max_new_tokens);
  if (!flags.stop.empty() && !session.tokenizer)
    fail(ErrorCode::not_found, "a stop string needs the text of the answer, and ", session.folder,
         " has no tokenizer.json", remedy("put the tokenizer's files there, or leave it out"));
  check_room(session, prompt_tokens, request.max_new_tokens, flags.max_new_tokens.has_value());
  return result;
}

std::int64_t plan_max_model_len(const Session& session, std::int64_t longest) {
  MemoryNeed need;
  need.kv_bytes_per_token = kv_bytes_per_token(*session.model);
  need.free_bytes = session.model->free_bytes();
  const std::int64_t fits = fit_max_model_len(longest, need);
  if (fits < longest) log_warning("memory holds ", fits, " tokens of prompt and answer, not ", longest);
  return std::min(fits, longest);
}

namespace {

// What it was made for, and the memory that it was planned to take.
LLMEngineOptions plan_exported(const Session& session, const EngineFlags& flags, std::int64_t sequences) {
  constexpr int kDefaultGuesses = 5;
  WantedLimits wanted;
  wanted.max_num_seqs = flags.max_num_seqs.value_or(0);
  wanted.max_num_batched_tokens = flags.max_num_batched_tokens.value_or(0);
  wanted.num_guesses = flags.prompt_lookup_num_tokens.value_or(0);
  if (!flags.assistant_model.empty()) wanted.num_guesses = flags.num_assistant_tokens.value_or(kDefaultGuesses);
  LLMEngineOptions options;
  limit_to_export(options, *session.limits, wanted);
  check_memory(*session.model->exported(), session.model->free_bytes());
  options.max_num_waiting = sequences + 1;
  options.enable_prefix_caching = flags.enable_prefix_caching;
  return options;
}

}  // namespace

LLMEngineOptions plan_engine(const Session& session, const EngineFlags& flags,
                             std::span<const EngineRequest> requests) {
  constexpr std::int64_t kMostAtATime = 64;
  std::int64_t longest = 1, sequences = 0;
  const auto length = [&](const EngineRequest& r) {
    const auto prompt = static_cast<std::int64_t>(r.sequence.prompt.size());
    return prompt + std::min(r.sequence.max_new_tokens, session.max_model_len - prompt);
  };
  for (const EngineRequest& r : requests) {
    longest = std::max(longest, length(r));
    sequences += r.n;
  }
  LLMEngineOptions options;
  if (session.limits) return plan_exported(session, flags, sequences);
  options.max_num_seqs = std::min(sequences, flags.max_num_seqs.value_or(kMostAtATime));
  options.prefill_chunk_size = flags.max_num_batched_tokens.value_or(options.prefill_chunk_size);
  options.max_num_waiting = sequences + 1;
  options.enable_prefix_caching = flags.enable_prefix_caching;
  const std::int64_t fits = plan_max_model_len(session, longest);
  options.max_model_len = fits < longest ? fits : session.max_model_len;

  // Blocks for all that can run side by side, if memory has them: with fewer, sequences wait for each other.
  std::vector<std::int64_t> blocks;
  for (const EngineRequest& r : requests)
    blocks.insert(blocks.end(), r.n, ceil_div(std::min(length(r), fits), kKvBlockSize));
  std::sort(blocks.begin(), blocks.end(), std::greater<>());
  const std::int64_t wanted = std::accumulate(blocks.begin(), blocks.begin() + options.max_num_seqs, std::int64_t{0});
  const auto block_bytes = static_cast<std::uint64_t>(kv_bytes_per_token(*session.model) * kKvBlockSize);
  const std::uint64_t allowed =
      flags.kv_cache_memory_bytes ? *flags.kv_cache_memory_bytes : session.model->free_bytes() / 2;
  const auto holds = static_cast<std::int64_t>(std::min<std::uint64_t>(allowed / block_bytes, 1u << 30));
  options.max_num_kv_blocks = std::max(blocks.front(), std::min(wanted, holds - 1));
  if (flags.kv_cache_memory_bytes && holds - 1 < blocks.front())
    fail(ErrorCode::out_of_memory, "--kv-cache-memory-bytes is ", allowed, ", and one sequence of ", longest,
         " tokens needs ", block_bytes * static_cast<std::uint64_t>(blocks.front() + 1),
         remedy("raise it, or ask for fewer tokens"));
  // A sequence cannot become longer than the pool.
  options.max_model_len = std::min(options.max_model_len, options.max_num_kv_blocks * kKvBlockSize);
  return options;
}

}  // namespace cajal::cli
