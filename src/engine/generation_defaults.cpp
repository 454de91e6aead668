#include "engine/generation_defaults.h"

#include <algorithm>

#include "base/error.h"

namespace cajal {
namespace {

float narrow(double value) { return static_cast<float>(value); }

}  // namespace

SamplingParams resolve_sampling(const SamplingWishes& wishes, const GenerationConfig& config) {
  SamplingParams params;
  const bool asked = wishes.temperature || wishes.top_k || wishes.top_p || wishes.min_p;
  const double temperature = wishes.temperature.value_or(config.temperature.value_or(1.0));
  params.temperature = asked || config.do_sample.value_or(false) ? narrow(temperature) : 0.0f;
  params.top_k = std::max<std::int64_t>(wishes.top_k.value_or(config.top_k.value_or(0)), 0);
  params.top_p = narrow(wishes.top_p.value_or(config.top_p.value_or(1.0)));
  params.min_p = narrow(wishes.min_p.value_or(config.min_p.value_or(0.0)));
  params.repetition_penalty = narrow(wishes.repetition_penalty.value_or(config.repetition_penalty.value_or(1.0)));
  params.presence_penalty = narrow(wishes.presence_penalty.value_or(0.0));
  params.frequency_penalty = narrow(wishes.frequency_penalty.value_or(0.0));
  return params;
}

std::int64_t resolve_max_new_tokens(std::optional<std::int64_t> wanted, const GenerationConfig& config,
                                    std::int64_t prompt_tokens) {
  constexpr std::int64_t kDefault = 256;
  if (wanted) return *wanted;
  if (config.max_new_tokens) return *config.max_new_tokens;
  if (!config.max_length) return kDefault;
  if (*config.max_length <= prompt_tokens)
    fail(ErrorCode::invalid_argument, "the prompt has ", prompt_tokens, " tokens, and generation_config.json allows ",
         *config.max_length, " with the answer (max_length)",
         remedy("ask for a number of new tokens, or shorten the prompt"));
  return *config.max_length - prompt_tokens;
}

}  // namespace cajal
