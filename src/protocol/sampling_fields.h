#pragma once
// What chat and completion requests say alike: how tokens are drawn, when it ends, and what comes back.
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/fields.h"
#include "protocol/structure_fields.h"

namespace cajal::protocol {

// Absent: the model's generation_config.json decides, and then the engine.
struct SamplingFields {
  int n = 1;
  std::optional<std::int64_t> max_tokens, top_k;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  double presence_penalty = 0, frequency_penalty = 0;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<std::int32_t> stop_token_ids;
  bool ignore_eos = false, skip_special_tokens = true;
  std::int32_t priority = 0;
  std::string cache_salt;
  std::optional<std::int64_t> timeout_ms, truncate_prompt_tokens;
  StructureFields structure;
  std::int64_t min_tokens = 0;
  std::vector<std::pair<std::int32_t, double>> logit_bias;  // by token id
  std::optional<std::int64_t> thinking_token_budget;
};

struct AnswerFields {
  bool stream = false, include_usage = false, continuous_usage = false;
  std::optional<int> logprobs;  // of each token, and of so many of the likeliest
  bool return_token_ids = false, return_tokens_as_token_ids = false;
};

SamplingFields read_sampling(Fields& fields);
AnswerFields read_answer(Fields& fields);  // without logprobs, which every endpoint spells its own way

inline constexpr int kMaxAnswers = 128, kMaxTopLogprobs = 20;

}  // namespace cajal::protocol
