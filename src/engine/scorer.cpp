#include "engine/scorer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/checked.h"
#include "engine/export/export_limits.h"
#include "engine/generator.h"

namespace cajal {

double Score::perplexity() const {
  if (logprobs.empty()) return 1;
  return std::exp(-std::accumulate(logprobs.begin(), logprobs.end(), 0.0) / static_cast<double>(logprobs.size()));
}

Score score(const Model& model, std::span<const std::int32_t> ids, std::int64_t max_model_len,
            const ScoreOptions& options) {
  const auto length = static_cast<std::int64_t>(ids.size());
  check_token_ids(ids, model.config().vocab_size, max_model_len);
  if (model.exported()) check_gives_logits(model.exported()->neuron_config());
  RunnerLimits limits;
  limits.max_num_batched_tokens = limits.max_num_logits = std::min(options.chunk_size, length);
  limits.max_model_len = length;
  limits.num_kv_blocks = 1 + ceil_div(length, kKvBlockSize);
  ModelRunner runner(model, limits);
  KVCacheManager kv(
      {.num_blocks = limits.num_kv_blocks, .max_blocks_per_seq = limits.num_kv_blocks, .enable_prefix_caching = false});
  CAJAL_CHECK(kv.add(0, {}) && kv.reserve(0, 0, length));

  Score result;
  std::vector<float> logits(static_cast<std::size_t>(runner.vocab_size()));
  StepInput step;
  step.block_tables.push_back(kv.block_table(0));
  for (std::int64_t begin = 0; begin < length; begin += limits.max_num_batched_tokens) {
    const std::int64_t end = std::min(begin + limits.max_num_batched_tokens, length);
    step.rows.clear();
    for (std::int64_t p = begin; p < end; ++p)
      step.rows.push_back({ids[static_cast<std::size_t>(p)], static_cast<std::int32_t>(p), 0, kv.slot(0, p),
                           static_cast<std::int32_t>(length), true});
    runner.run(step);
    for (std::int64_t p = begin; p < end; ++p) {
      runner.read_logits(p - begin, logits);
      const double lse = log_sum_exp(logits);
      if (!std::isfinite(lse))
        fail(ErrorCode::data_loss, "the model's logits after token ", p, " are not finite",
             remedy("check the weights; try --dtype float32"));
      if (options.on_logits) options.on_logits(p, logits);
      if (p + 1 == length) break;
      const std::int32_t next = ids[static_cast<std::size_t>(p + 1)];
      result.logprobs.push_back(static_cast<double>(logits[static_cast<std::size_t>(next)]) - lse);
      if (options.num_top_logprobs > 0)
        result.top_logprobs.push_back(top_logprobs(logits, lse, options.num_top_logprobs));
    }
  }
  return result;
}

}  // namespace cajal
