#pragma once
// From flags and generation_config.json to what the engine is asked for.
#include <cstdint>
#include <span>
#include <vector>

#include "cli/session.h"
#include "engine/llm_engine.h"

namespace cajal::cli {

// Flags win over the model's generation_config.json, that over defaults. It is greedy unless the file says do_sample or
// one of --temperature (above 0), --top-k, --top-p and --min-p is given.
SamplingParams resolve_sampling(const GenerateFlags& flags, const GenerationConfig& config);

// What the flags want answers to be and to have, compiled, for all prompts. `may_think`: an answer may begin with a thought
// that its prompt has not begun.
TokenConstraints make_constraints(const GenerateFlags& flags, const Session& session, bool may_think);

// One prompt with the sequences that are wanted of it. A seed that is not given is drawn.
EngineRequest make_request(const GenerateFlags& flags, const Session& session, std::vector<std::int32_t> prompt,
                           const TokenConstraints& constraints = {});

// How long a single sequence may become, of at most `longest` tokens, with the memory that is free; less comes with a
// warning.
std::int64_t plan_max_model_len(const Session& session, std::int64_t longest);

// What the engine needs to run these requests: as many side by side, and as many blocks of the KV cache, as they can use
// and as memory holds.
LLMEngineOptions plan_engine(const Session& session, const EngineFlags& flags, std::span<const EngineRequest> requests);

}  // namespace cajal::cli
