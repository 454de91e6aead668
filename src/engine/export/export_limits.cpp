#include "engine/export/export_limits.h"

#include <algorithm>

#include "base/checked.h"
#include "engine/llm_engine.h"

namespace cajal {
namespace {

// Rows that a sequence has logits of in a step: what it was given, and guesses after it.
std::int64_t rows_per_sequence(const NeuronConfig& config) { return limits_of(config).speculation_length; }

GraphKind kind_of(const NeuronConfig& config, std::int64_t rows) {
  if (rows <= config.batch_size) return GraphKind::token_generation;
  if (rows <= config.batch_size * rows_per_sequence(config)) return GraphKind::speculation;
  return config.prefill_chunk_size > 0 ? GraphKind::chunked_prefill : GraphKind::context_encoding;
}

void check_equal(const char* name, std::int64_t wanted, const char* field, std::int64_t exported) {
  if (wanted != 0 && wanted != exported)
    fail(ErrorCode::invalid_argument, name, " is ", wanted, ", and the model was exported with ", field, " ", exported,
         remedy("leave it out, or export the model again"));
}

}  // namespace

RunnerLimits runner_limits(const NeuronConfig& config, const Qwen3Outputs& outputs) {
  const BucketLimits limits = limits_of(config);
  const std::int64_t logits = checked_mul(limits.max_num_seqs, limits.speculation_length, "rows of logits");
  const std::int64_t blocks = ceil_div(limits.max_model_len, kKvBlockSize);
  RunnerLimits runner;
  runner.max_num_seqs = limits.max_num_seqs;
  runner.max_num_batched_tokens = std::max({limits.prefill_chunk_size, limits.max_num_seqs, logits});
  runner.max_num_logits = logits;
  runner.max_model_len = limits.max_model_len;
  runner.num_kv_blocks = checked_add(checked_mul(limits.max_num_seqs, blocks, "blocks of the cache"), std::int64_t{1},
                                     "blocks of the cache");
  runner.outputs = outputs;
  return runner;
}

std::vector<PlannedGraph> planned_graphs(const NeuronConfig& config) {
  const RunnerLimits limits = runner_limits(config, {});
  std::vector<PlannedGraph> graphs;
  for (const std::int64_t rows : bucket_sizes(limits.max_num_batched_tokens))
    graphs.push_back({kind_of(config, rows), bucket_of(limits, rows)});
  return graphs;
}

void limit_to_export(LLMEngineOptions& options, const NeuronConfig& config, const WantedLimits& wanted) {
  const RunnerLimits limits = runner_limits(config, {});
  check_equal("max-model-len", wanted.max_model_len, "sequence_length", limits.max_model_len);
  check_equal("max-num-seqs", wanted.max_num_seqs, "batch_size", limits.max_num_seqs);
  check_equal("max-num-batched-tokens", wanted.max_num_batched_tokens, "prefill_chunk_size",
              limits.max_num_batched_tokens);
  const std::int64_t guesses = rows_per_sequence(config) - 1;
  if (wanted.num_guesses > guesses)
    fail(ErrorCode::invalid_argument, "to guess ", wanted.num_guesses, " tokens ahead takes a speculation_length of ",
         wanted.num_guesses + 1, ", and the model was exported with ", config.speculation_length,
         remedy("export it with --speculation-length ", wanted.num_guesses + 1));
  options.max_num_seqs = limits.max_num_seqs;
  options.prefill_chunk_size = limits.max_num_batched_tokens;
  options.max_model_len = limits.max_model_len;
  options.max_num_kv_blocks = limits.num_kv_blocks - 1;
  options.max_num_logits = limits.max_num_logits;
}

}  // namespace cajal
