#pragma once
// What is asked of a model for one sequence, and what comes of it.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "engine/structured_output/allowed_tokens.h"

namespace cajal {

struct SequenceRequest {
  std::vector<std::int32_t> prompt;
  SamplingParams sampling;
  std::uint32_t sequence_index = 0;  // among those of one request: with the seed it selects the random numbers
  std::int64_t max_new_tokens = 256;
  std::vector<std::int32_t> eos_token_ids;  // any of them ends the sequence
  std::vector<std::string> stop;            // needs a tokenizer
  bool skip_special_tokens = true;          // in the text
  TokenConstraints constraints;             // which tokens may come, and when
  std::int64_t num_logprobs = -1;  // most likely tokens to report for each position; -1: no log-probabilities at all
};

enum class FinishReason {
  stop,               // an ending token or a stop string
  length,             // max_new_tokens or max_model_len
  interrupted,        // nobody wants it any more
  numerical_error,    // the model's numbers were not finite
  deadline_exceeded,  // its time was over
  error,              // the step that it was in failed
};
const char* to_string(FinishReason reason);

struct GeneratedToken {
  TokenLogprob chosen;  // of the model's own distribution, before temperature and penalties; 0 unless asked for
  std::vector<TokenLogprob> top;  // the most likely ones, as many as were asked for
};

struct SequenceResult {
  std::vector<GeneratedToken> tokens;  // the ending token included
  std::string text;                    // without the ending token, cut before a stop string; empty without a tokenizer
  FinishReason finish_reason = FinishReason::length;
};

// Throws Error(invalid_argument) naming the first id outside 0..vocab_size-1, or that there are none, or more than
// max_model_len allows.
void check_token_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size, std::int64_t max_model_len);

}  // namespace cajal
