#pragma once
// From public settings to the models and the engine that they describe.
#include <cstdint>
#include <string>

#include "api/public.h"
#include "base/error.h"
#include "engine/llm_engine.h"
#include "engine/model.h"
#include "engine/ranks/rank_team.h"

namespace cajal {

template <class Value>
void check_range(const char* name, Value value, Value least, Value most) {
  if (value < least || value > most)
    fail(ErrorCode::invalid_argument, name, " is ", value, ", expected ", least, " to ", most);
}

// Throws Error for numbers out of range and for settings that contradict each other.
void check(const api::EngineConfig& config);

// Where a model lies: a folder, a name in Hugging Face's cache, or, of an empty name, the demo model.
std::string model_folder(const std::string& model);

// Its ranks, as threads; null where it is to run on one device. Error where they contradict an export, or cannot be.
std::unique_ptr<RankTeam> open_ranks(const api::EngineConfig& config, const std::string& folder);
// The device that the configuration names, as the target that an export in `folder` was made for.
std::unique_ptr<Backend> open_device(const api::EngineConfig& config, const std::string& folder);

ModelOptions model_options(const api::EngineConfig& config, const std::string& folder);
// Those of the model that guesses for `target`: it computes as that does, with a configuration of its own.
ModelOptions assistant_options(const api::EngineConfig& config, const std::string& folder, const Model& target);

// The engine's, but for its trace. `assistant` may be null.
LLMEngineOptions engine_options(const api::EngineConfig& config, const Model& model, const Model* assistant);

std::int64_t kv_bytes_per_token(const Model& model);

}  // namespace cajal
