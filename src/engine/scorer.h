#pragma once
// What a model says of a given text: the log-probability of every token after the ones before it.
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/model_runner.h"
#include "engine/sampler.h"
#include "engine/scheduling/kv_cache_manager.h"

namespace cajal {

struct ScoreOptions {
  std::int64_t chunk_size = 128;  // tokens of one step
  std::int64_t num_top_logprobs = 0;
  // Row i is what the model says after token i, [vocab_size]; called in ascending order.
  std::function<void(std::int64_t row, std::span<const float> logits)> on_logits;
};

struct Score {
  std::vector<double> logprobs;                         // [T-1]: of tokens 1..T-1
  std::vector<std::vector<TokenLogprob>> top_logprobs;  // [T-1], empty unless asked for
  double perplexity() const;                            // exp(-mean); 1 where there is nothing to predict
};

// Throws Error(data_loss) if the model gives numbers that are not finite, naming the position.
Score score(const Model& model, std::span<const std::int32_t> token_ids, std::int64_t max_model_len,
            const ScoreOptions& options);

}  // namespace cajal
