#pragma once
// How a device is told to choose the token of a row of logits, and what it says.
#include <cstdint>

#include "tensor/sampling_math.h"

namespace cajal {

enum class ChooseHow : std::int32_t {
  on_host,  // not here: the host wants the logits
  greedy,   // the largest logit, the lowest id among equals
  draw,     // by the Gumbel-max rule
};

// Of penalties a device knows nothing: rows that have them are the host's.
struct RowSampling {
  ChooseHow how = ChooseHow::on_host;
  std::int32_t num_logprobs =
      -1;                     // -1: no sum of weights; otherwise so many of the most likely tokens, kMostTopLogprobs
  float temperature = 1;      // above 0
  std::int32_t top_k = 0;     // 0: off
  double top_p = 1;           // 1: off
  double log_min_p = -1e300;  // the logarithm of min_p
  DrawKey key;
};

constexpr std::int32_t kMostTopLogprobs = 20;

enum class ChoiceStatus : std::int32_t {
  on_host,  // nothing was chosen: the row wanted it so, or has more candidates than the device keeps
  chosen,
  not_finite,  // a logit of the row is no finite number
};

// Logits are the model's own, as they were before the temperature.
struct RowChoice {
  ChoiceStatus status = ChoiceStatus::on_host;
  std::int32_t token_id = 0;
  float logit = 0, largest = 0;      // of the chosen token; of any
  std::uint64_t sum_of_weights = 0;  // of exp_weight(logit - largest)
  std::int32_t num_top = 0;          // the most likely first, the lower id first among equals
  std::int32_t top_ids[kMostTopLogprobs] = {};
  float top_logits[kMostTopLogprobs] = {};
};

}  // namespace cajal
