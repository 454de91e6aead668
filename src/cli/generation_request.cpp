#include "cli/generation_request.h"

#include <algorithm>

#include "base/log.h"
#include "cli/usage_error.h"
#include "engine/counter_rng.h"
#include "engine/generation_defaults.h"
#include "engine/inspect.h"

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

std::vector<SequenceRequest> make_requests(const GenerateFlags& flags, const Session& session,
                                           const std::vector<std::int32_t>& prompt) {
  const Model& model = *session.model;
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  SequenceRequest request;
  request.prompt = prompt;
  request.sampling = resolve_sampling(flags, model.generation_config());
  request.max_new_tokens = resolve_max_new_tokens(flags.max_new_tokens, model.generation_config(), prompt_tokens);
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
