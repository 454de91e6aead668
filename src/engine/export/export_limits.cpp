#include "engine/export/export_limits.h"

#include <algorithm>

#include "base/checked.h"
#include "engine/llm_engine.h"
#include "engine/pooling_runner.h"

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

// Any row of a step may be wanted, and its texts need not have been begun in it.
RunnerLimits encoding_limits(const NeuronConfig& config, const Qwen3Outputs& outputs) {
  const BucketLimits limits = limits_of(config);
  RunnerLimits runner;
  runner.max_num_seqs = limits.max_num_seqs;
  runner.max_num_batched_tokens = runner.max_num_logits = std::max(limits.prefill_chunk_size, limits.max_num_seqs);
  runner.max_model_len = limits.max_model_len;
  runner.num_kv_blocks = num_pooling_blocks(runner);
  runner.outputs = outputs;
  return runner;
}

}  // namespace

bool encodes_only(const Qwen3Outputs& outputs) { return !outputs.logits; }

RunnerLimits runner_limits(const NeuronConfig& config, const Qwen3Outputs& outputs) {
  if (encodes_only(outputs)) return encoding_limits(config, outputs);
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

std::vector<PlannedGraph> planned_graphs(const NeuronConfig& config, const Qwen3Outputs& outputs) {
  const RunnerLimits limits = runner_limits(config, outputs);
  std::vector<PlannedGraph> graphs;
  for (const std::int64_t rows : bucket_sizes(limits.max_num_batched_tokens))
    graphs.push_back({encodes_only(outputs) ? GraphKind::encoding : kind_of(config, rows), bucket_of(limits, rows)});
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
  options.choose_on_device = config.on_device_sampling;
  options.request_limits = request_limits(config);
}

RequestLimits request_limits(const NeuronConfig& config) {
  RequestLimits limits;
  if (config.prefill_chunk_size == 0) limits.max_prompt_len = config.max_context_length;
  if (config.on_device_sampling) {
    limits.max_top_k = std::max<std::int64_t>(config.max_topk, 0);
    limits.logits = config.output_logits;
  }
  return limits;
}

void check_gives_logits(const NeuronConfig& config) {
  if (request_limits(config).logits) return;
  fail(ErrorCode::invalid_argument,
       "Output logits are not supported: the model was exported with on_device_sampling true and output_logits false",
       remedy("export it with --output-logits"));
}

void check_prompt_length(const NeuronConfig& config, std::int64_t tokens) {
  if (config.prefill_chunk_size > 0 || tokens <= config.max_context_length) return;
  fail(ErrorCode::invalid_argument, "The input sequence length (", tokens,
       ") exceeds the model static sequence length (", config.max_context_length, ")",
       remedy("shorten the prompt, or export with a larger --max-context-length or with --prefill-chunk-size"));
}

void check_memory(const ExportFolder& exported, std::uint64_t free_bytes) {
  const Manifest& m = exported.manifest();
  const RunnerLimits limits = runner_limits(exported.neuron_config(), exported.recipe().graph.outputs);
  std::uint64_t arena = 0;
  for (const ExportedGraph& graph : m.graphs) arena = std::max(arena, graph.arena_bytes);
  const auto cache = checked_mul(m.kv_bytes_per_block, static_cast<std::uint64_t>(limits.num_kv_blocks), "the cache");
  if (checked_add(cache, arena, "planned memory") <= free_bytes) return;
  const std::uint64_t fits = free_bytes > arena ? (free_bytes - arena) / m.kv_bytes_per_block : 0;
  const auto per_sequence = static_cast<std::uint64_t>(limits.max_num_seqs);
  const std::uint64_t longest = fits > 0 ? (fits - 1) / per_sequence * kKvBlockSize : 0;
  fail(ErrorCode::out_of_memory, exported.path(), ": the plan takes ", cache, " bytes of cache for ",
       limits.max_num_seqs, " sequences of ", limits.max_model_len, " tokens and ", arena, " of activations, and ",
       free_bytes, " bytes are free",
       remedy("free memory, or export with --sequence-length ", longest, ", or a smaller --batch-size"));
}

}  // namespace cajal
