#pragma once
// What a request leaves open comes from the model's generation_config.json, and then from the defaults here.
#include <cstdint>
#include <optional>

#include "engine/sampler.h"
#include "models/generation_config.h"

namespace cajal {

// What a request says of its sampling; absent: nothing.
struct SamplingWishes {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<std::int64_t> top_k;  // 0 and -1: off
};

// Greedy, unless the request says anything of how to draw or the model's maker wants it to (do_sample). The seed is left
// to the caller.
SamplingParams resolve_sampling(const SamplingWishes& wishes, const GenerationConfig& config);

// Throws Error(invalid_argument) if the model's max_length leaves no room for an answer.
std::int64_t resolve_max_new_tokens(std::optional<std::int64_t> wanted, const GenerationConfig& config,
                                    std::int64_t prompt_tokens);

}  // namespace cajal
