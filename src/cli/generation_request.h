#pragma once
// From flags and generation_config.json to what the generator is asked for.
#include <cstdint>
#include <vector>

#include "cli/session.h"
#include "engine/generator.h"

namespace cajal::cli {

// Flags win over the model's generation_config.json, that over defaults. It is greedy unless the file says do_sample or
// one of --temperature (above 0), --top-k, --top-p and --min-p is given.
SamplingParams resolve_sampling(const GenerateFlags& flags, const GenerationConfig& config);

// One request a sequence; they differ by their index only. A seed that is not given is drawn.
std::vector<SequenceRequest> make_requests(const GenerateFlags& flags, const Session& session,
                                           const std::vector<std::int32_t>& prompt);

// How many sequences run at a time, and how long they may become, with the memory that is free.
struct MemoryPlanForRun {
  std::int64_t num_seqs = 1, max_model_len = 1;
};
MemoryPlanForRun plan_memory_for_run(const Session& session, std::int64_t longest, std::int64_t num_seqs);

}  // namespace cajal::cli
