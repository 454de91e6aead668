#pragma once
// From a row of logits to a token, with Hugging Face's processors in Hugging Face's order.
#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "backends/sampling.h"

namespace cajal {

struct SamplingParams {
  float temperature = 1.0f;  // 0: greedy
  std::int64_t top_k = 0;    // 0: off
  float top_p = 1.0f;        // 1: off
  float min_p = 0.0f;        // 0: off
  float repetition_penalty =
      1.0f;  // of tokens in prompt or output: a logit above 0 is divided by it, one below multiplied
  float presence_penalty = 0.0f;   // taken once from the logit of every token of the output
  float frequency_penalty = 0.0f;  // taken as often as the token is in the output
  std::uint64_t seed = 0;
  bool greedy() const { return temperature == 0; }
};
// Throws Error(invalid_argument) naming the parameter, its value and its range.
void check_sampling_params(const SamplingParams& params);

struct TokenLogprob {
  std::int32_t token_id = 0;
  double logprob = 0;  // natural logarithm
  bool operator==(const TokenLogprob&) const = default;
};

// log(sum(exp(logits))): what turns logits of the model's own distribution into log-probabilities. The sum is of integers
// (tensor/sampling_math.h), so that it has the same bits wherever and in whatever order it is made.
double log_sum_exp(std::span<const float> logits);
// The same from what a device has summed up: exp_weight(logit - largest) of all tokens.
double log_sum_exp(float largest, std::uint64_t sum_of_weights);
bool all_finite(std::span<const float> logits);
// The `count` most likely tokens, most likely first, the lower id first among equals.
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, double log_sum_exp, std::int64_t count);
std::int32_t argmax(std::span<const float> logits);  // the lowest id among equals, as torch.argmax

// The processors and warpers, in place: repetition, frequency and presence penalty, temperature, top-k (ties at the k-th
// value are kept), top-p, min-p. What is removed becomes -infinity. `prompt` and `output` count for the penalties.
class LogitsProcessor {
 public:
  LogitsProcessor(const SamplingParams& params, std::span<const std::int32_t> prompt);
  void accept(std::int32_t token);  // a token of the output
  bool changes_nothing() const;     // apply() leaves all logits as they are, now and later
  void apply_penalties(std::span<float> logits) const;
  void apply(std::span<float> logits);  // all of it; without temperature and what follows if greedy

 private:
  void keep_top_k(std::span<float> logits);
  void keep_top_p(std::span<float> logits);
  void keep_min_p(std::span<float> logits) const;

  SamplingParams params_;
  std::unordered_set<std::int32_t> seen_;  // in prompt or output
  std::unordered_map<std::int32_t, std::int64_t> output_counts_;
  std::vector<float> values_;       // scratch
  std::vector<TokenLogprob> heap_;  // scratch
};

// What to tell an executor of the token at `position` of one sequence, so that it chooses what the host would. `how` is
// on_host where devices cannot: they know nothing of penalties.
RowSampling device_sampling(const SamplingParams& params, std::uint32_t sequence_index, std::int64_t position);

// Chooses by the Gumbel-max rule over processed logits; -infinity is never chosen. `sequence` and `position` (of the
// token in its sequence) select the random numbers.
std::int32_t sample_gumbel(std::span<const float> logits, std::uint64_t seed, std::uint32_t sequence,
                           std::uint64_t position);

}  // namespace cajal
