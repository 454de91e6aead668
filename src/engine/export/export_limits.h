#pragma once
// What an engine of an export runs: its limits, and the buckets that they lead to. Exporting, loading and inspecting agree on
// them here, so that a graph that was exported is one that is asked for.
#include <vector>

#include "engine/export/export_folder.h"
#include "engine/model_runner.h"
#include "engine/scheduling/engine_core.h"
#include "models/neuron_config.h"

namespace cajal {

struct LLMEngineOptions;

// Whether graphs with these outputs give vectors of texts and nothing to generate with.
bool encodes_only(const Qwen3Outputs& outputs);
RunnerLimits runner_limits(const NeuronConfig& config, const Qwen3Outputs& outputs);

struct PlannedGraph {
  GraphKind kind =
      GraphKind::token_generation;  // the largest use of it: one row a sequence, a guess a sequence, a prompt
  Bucket bucket;
};
// One for each number of rows that a runner of these limits makes a bucket for, the smallest first.
std::vector<PlannedGraph> planned_graphs(const NeuronConfig& config, const Qwen3Outputs& outputs);

// Sets the options of an engine to what the export was made for. What was asked for stays in `wanted`; 0 is nothing.
struct WantedLimits {
  std::int64_t max_model_len = 0, max_num_seqs = 0, max_num_batched_tokens = 0;
  std::int64_t num_guesses = 0;  // tokens that are guessed at a time
};
// Error(invalid_argument) for what differs from the export.
void limit_to_export(LLMEngineOptions& options, const NeuronConfig& config, const WantedLimits& wanted);
// What a request to such an engine may ask for.
RequestLimits request_limits(const NeuronConfig& config);
// Error(invalid_argument) if an export chooses tokens and gives no logits beside them.
void check_gives_logits(const NeuronConfig& config);
// Error(invalid_argument) for a prompt that is longer than what is encoded at once, where prompts are not read in chunks.
void check_prompt_length(const NeuronConfig& config, std::int64_t tokens);
// Error(out_of_memory) with the numbers if the cache and the activations that were planned do not fit what is free.
void check_memory(const ExportFolder& exported, std::uint64_t free_bytes);

}  // namespace cajal
