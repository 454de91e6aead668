#pragma once
// From public parameters to the requests that the engine runs.
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "api/public.h"
#include "engine/model.h"
#include "engine/scheduling/sequence.h"
#include "engine/structured_output/request_constraints.h"
#include "text/tokenizer.h"

namespace cajal {

// What requests are checked against and filled up from.
struct RequestContext {
  const Model& model;
  const Tokenizer* tokenizer;  // null: the folder has none
  std::int64_t max_model_len;
};

std::vector<std::int32_t> prompt_token_ids(const RequestContext& context, const api::Prompt& prompt);

// One prompt with its n sequences. Throws Error for parameters that make no sense and for prompts that leave no room.
EngineRequest make_request(const RequestContext& context, std::vector<std::int32_t> prompt,
                           const api::SamplingParams& params, std::uint64_t seed);

ConstraintWishes constraint_wishes(const api::SamplingParams& params);

// How long that is; ages are cut to some decades, so that sums do not overflow.
std::chrono::nanoseconds timeout_of(std::int64_t timeout_ms);

std::vector<std::int32_t> ending_tokens(const Model& model);

}  // namespace cajal
