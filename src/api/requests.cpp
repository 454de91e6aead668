#include "api/requests.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "engine/export/export_limits.h"
#include "engine/generation_defaults.h"

namespace cajal {
namespace {

constexpr int kMostAnswers = 1024;

template <class Value>
void check_at_least(std::string_view name, Value value, Value least) {
  if (value < least) fail(ErrorCode::invalid_argument, name, " is ", value, ", expected ", least, " or more");
}

void check(const api::SamplingParams& params, const RequestContext& context) {
  check_at_least("n", params.n, 1);
  if (params.n > kMostAnswers)
    fail(ErrorCode::invalid_argument, "n is ", params.n, ", expected at most ", kMostAnswers);
  if (params.max_tokens) check_at_least<std::int64_t>("max_tokens", *params.max_tokens, 1);
  if (params.top_k) check_at_least<std::int64_t>("top_k", *params.top_k, -1);
  if (params.logprobs) check_at_least("logprobs", *params.logprobs, 0);
  if (params.timeout_ms) check_at_least<std::int64_t>("timeout_ms", *params.timeout_ms, 0);
  for (std::size_t i = 0; i < params.stop.size(); ++i)
    if (params.stop[i].empty())
      fail(ErrorCode::invalid_argument, "stop[", i, "] is empty, expected the text to stop at");
  if (!params.stop.empty() && !context.tokenizer)
    fail(ErrorCode::not_found, "stop needs the text of the answer, and ", context.model.name(),
         " has no tokenizer.json", remedy("put the tokenizer's files there, or leave stop out"));
}

SamplingWishes wishes_of(const api::SamplingParams& params) {
  SamplingWishes wishes;
  wishes.temperature = params.temperature;
  wishes.top_k = params.top_k;
  wishes.top_p = params.top_p;
  wishes.min_p = params.min_p;
  wishes.repetition_penalty = params.repetition_penalty;
  wishes.presence_penalty = params.presence_penalty;
  wishes.frequency_penalty = params.frequency_penalty;
  return wishes;
}

}  // namespace

ConstraintWishes constraint_wishes(const api::SamplingParams& params) {
  ConstraintWishes wishes;
  if (params.structured_outputs) {
    const api::StructuredOutputs& s = *params.structured_outputs;
    wishes.structured_outputs.emplace(
        StructuredOutputs{s.json, s.regex, s.choice, s.grammar, s.json_object, s.structural_tag});
  }
  wishes.min_tokens = params.min_tokens;
  for (const auto& [token, bias] : params.logit_bias) wishes.logit_bias.push_back({token, static_cast<float>(bias)});
  wishes.thinking_token_budget = params.thinking_token_budget;
  wishes.may_think = params.may_think;
  wishes.ignore_eos = params.ignore_eos;
  return wishes;
}

std::vector<std::int32_t> ending_tokens(const Model& model) {
  const auto& own = model.generation_config().eos_token_id;
  return own.empty() ? model.config().eos_token_id : own;
}

std::chrono::nanoseconds timeout_of(std::int64_t timeout_ms) {
  constexpr std::int64_t kMost = 1'000'000'000'000;  // 31 years
  return std::chrono::milliseconds(std::min(timeout_ms, kMost));
}

std::vector<std::int32_t> prompt_token_ids(const RequestContext& context, const api::Prompt& prompt) {
  if (!prompt.is_text()) return prompt.token_ids();
  // Where there is no tokenizer, loading one says which file is missing.
  if (!context.tokenizer) return Tokenizer::from_folder(context.model.name()).encode(prompt.text());
  return with_context("the prompt", [&] { return context.tokenizer->encode(prompt.text()); });
}

EngineRequest make_request(const RequestContext& context, std::vector<std::int32_t> prompt,
                           const api::SamplingParams& params, std::uint64_t seed) {
  check(params, context);
  check_token_ids(prompt, context.model.config().vocab_size, context.max_model_len);
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  if (context.model.exported()) check_prompt_length(context.model.exported()->neuron_config(), prompt_tokens);
  if (prompt_tokens == context.max_model_len)
    fail(ErrorCode::invalid_argument, "the prompt has ", prompt_tokens, " tokens and the model takes ",
         context.max_model_len, " with the answer", remedy("shorten the prompt"));
  const GenerationConfig& defaults = context.model.generation_config();
  EngineRequest result;
  result.n = static_cast<std::uint32_t>(params.n);
  result.priority = params.priority;
  result.cache_salt = params.cache_salt;
  SequenceRequest& request = result.sequence;
  request.prompt = std::move(prompt);
  request.sampling = resolve_sampling(wishes_of(params), defaults);
  request.sampling.seed = seed;
  check_sampling_params(request.sampling);
  request.max_new_tokens = resolve_max_new_tokens(params.max_tokens, defaults, prompt_tokens);
  // Beyond that nothing is generated, and sums with it should not overflow.
  request.max_new_tokens = std::min(request.max_new_tokens, context.max_model_len);
  if (!params.ignore_eos) request.eos_token_ids = ending_tokens(context.model);
  request.eos_token_ids.insert(request.eos_token_ids.end(), params.stop_token_ids.begin(), params.stop_token_ids.end());
  request.stop = params.stop;
  request.skip_special_tokens = params.skip_special_tokens;
  request.num_logprobs = params.logprobs.value_or(-1);
  return result;
}

}  // namespace cajal
