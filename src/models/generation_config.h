#pragma once
// generation_config.json: how its maker wants a model to be sampled. Values are defaults for what a request leaves open.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace cajal {

// Hugging Face's keys. What the file does not set (or sets to null) is absent here: defaults are the engine's business.
struct GenerationConfig {
  std::optional<bool> do_sample;
  std::optional<double> temperature;  // 0 is greedy
  std::optional<std::int64_t> top_k;  // 0 is all; a -1, as vLLM writes "all", is read as 0
  std::optional<double> top_p, min_p, repetition_penalty;
  std::optional<std::int64_t> max_new_tokens, max_length;  // max_length counts the prompt too; max_new_tokens wins
  std::vector<std::int32_t> eos_token_id;                  // any of them; empty: config.json's
  std::optional<std::int32_t> bos_token_id, pad_token_id;

  bool operator==(const GenerationConfig&) const = default;
};

// Reads a parsed generation_config.json; `file` is what errors call it. Unknown keys are ignored. A setting that would
// change what is generated and that we do not have (beams, n-gram bans, forced tokens, …) is Error(unsupported) that names
// it, and a value that makes no sense Error(data_loss): the model would quietly not do what its maker set.
GenerationConfig read_generation_config(const Json& config, std::string_view file);
// Reads folder/generation_config.json; where there is none, nothing is set.
GenerationConfig load_generation_config(const std::string& folder);

}  // namespace cajal
