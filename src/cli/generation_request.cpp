#include "cli/generation_request.h"

#include <algorithm>
#include <random>

#include "base/log.h"
#include "cli/usage_error.h"
#include "engine/inspect.h"

namespace cajal::cli {
namespace {

float narrow(double value) { return static_cast<float>(value); }

// 32 bits, so that a seed is short to copy.
std::uint64_t draw_seed() { return std::random_device()(); }

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
  SamplingParams params;
  const bool asked = flags.temperature || flags.top_k || flags.top_p || flags.min_p;
  const double temperature = flags.temperature.value_or(config.temperature.value_or(1.0));
  params.temperature = asked || config.do_sample.value_or(false) ? narrow(temperature) : 0.0f;
  params.top_k = std::max<std::int64_t>(flags.top_k ? *flags.top_k : config.top_k.value_or(0), 0);
  params.top_p = narrow(flags.top_p.value_or(config.top_p.value_or(1.0)));
  params.min_p = narrow(flags.min_p.value_or(config.min_p.value_or(0.0)));
  params.repetition_penalty = narrow(flags.repetition_penalty.value_or(config.repetition_penalty.value_or(1.0)));
  params.presence_penalty = narrow(flags.presence_penalty.value_or(0.0));
  params.frequency_penalty = narrow(flags.frequency_penalty.value_or(0.0));
  params.seed = flags.seed ? *flags.seed : draw_seed();
  return params;
}

std::int64_t resolve_max_new_tokens(const GenerateFlags& flags, const GenerationConfig& config,
                                    std::int64_t prompt_tokens) {
  constexpr std::int64_t kDefault = 256;
  if (flags.max_new_tokens) return *flags.max_new_tokens;
  if (config.max_new_tokens) return *config.max_new_tokens;
  if (!config.max_length) return kDefault;
  if (*config.max_length <= prompt_tokens)
    fail(ErrorCode::invalid_argument, "the prompt has ", prompt_tokens, " tokens, and generation_config.json allows ",
         *config.max_length, " with the answer (max_length)", remedy("give --max-new-tokens, or shorten the prompt"));
  return *config.max_length - prompt_tokens;
}

std::vector<SequenceRequest> make_requests(const GenerateFlags& flags, const Session& session,
                                           const std::vector<std::int32_t>& prompt) {
  const Model& model = *session.model;
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  SequenceRequest request;
  request.prompt = prompt;
  request.sampling = resolve_sampling(flags, model.generation_config());
  request.max_new_tokens = resolve_max_new_tokens(flags, model.generation_config(), prompt_tokens);
  request.eos_token_ids = ending_tokens(flags, model);
  request.stop = flags.stop;
  request.num_logprobs = flags.logprobs.value_or(-1);
  if (!flags.stop.empty() && !session.tokenizer)
    fail(ErrorCode::not_found, "--stop needs the text of the answer, and ", session.folder, " has no tokenizer.json",
         remedy("put the tokenizer's files there, or leave --stop out"));
  check_room(session, prompt_tokens, request.max_new_tokens, flags.max_new_tokens.has_value());
  std::vector<SequenceRequest> requests(static_cast<std::size_t>(flags.num_return_sequences), request);
  for (std::size_t i = 0; i < requests.size(); ++i) requests[i].sequence_index = static_cast<std::uint32_t>(i);
  return requests;
}

MemoryPlanForRun plan_memory_for_run(const Session& session, std::int64_t longest, std::int64_t num_seqs) {
  constexpr std::int64_t kMostAtATime = 64;
  MemoryNeed need;
  need.kv_bytes_per_token = kv_bytes_per_token(*session.model);
  need.free_bytes = session.backend->free_bytes();
  need.num_seqs = std::min(num_seqs, kMostAtATime);
  // Sequences that do not fit side by side run one after another.
  while (need.num_seqs > 1 && need.free_bytes / static_cast<std::uint64_t>(need.num_seqs) <
                                  static_cast<std::uint64_t>((longest + 2 * kKvBlockSize) * need.kv_bytes_per_token))
    need.num_seqs = (need.num_seqs + 1) / 2;
  const std::int64_t fits = fit_max_model_len(longest, need);
  if (fits >= longest) return {need.num_seqs, session.max_model_len};
  log_warning("memory holds ", fits, " tokens of prompt and answer, not ", longest);
  return {need.num_seqs, fits};
}

}  // namespace cajal::cli
