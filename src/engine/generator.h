#pragma once
// Text generation for a set of sequences that run together: prompts in chunks, then a token each a step.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/model_runner.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/scheduling/kv_cache_manager.h"
#include "text/tokenizer.h"

namespace cajal {

// Called after each token of a sequence with the text that became certain; false ends the whole run.
using OnToken = std::function<bool(std::size_t sequence, std::int32_t token_id, std::string_view text)>;

// How a sequence came on: by a token, or to its end, or both at once.
struct SequenceProgress {
  std::size_t sequence = 0;                   // among the requests
  const GeneratedToken* token = nullptr;      // null: it ended without one
  std::string_view text;                      // what became certain
  std::optional<FinishReason> finish_reason;  // set once, with the last progress
};

// What a run reports and asks, on the thread that runs. Both may be empty; neither may throw.
struct RunHooks {
  std::function<void(const SequenceProgress&)> on_progress;
  // Asked before each step of every sequence that is not over, also of those that wait; false ends it as interrupted.
  std::function<bool(std::size_t sequence)> is_wanted;
};

struct GeneratorOptions {
  std::int64_t max_num_seqs = 64;
  std::int64_t prefill_chunk_size = 512;  // rows of one prompt in one step, at most
  std::int64_t max_model_len = 0;         // 0: what the model's configuration allows
  std::int64_t max_num_kv_blocks = 0;     // of the pool; 0: what max_num_seqs sequences of max_model_len need
};

// Throws Error(invalid_argument) naming the first id outside 0..vocab_size-1, or that there are none, or more than
// max_model_len allows.
void check_token_ids(std::span<const std::int32_t> ids, std::int64_t vocab_size, std::int64_t max_model_len);

class Generator {
 public:
  // Takes the KV pool's memory. `tokenizer` may be null: no text then.
  Generator(const Model& model, const Tokenizer* tokenizer, const GeneratorOptions& options);
  ~Generator();

  // Runs all sequences to their ends; as many at a time as the pool and max_num_seqs allow, in order. What one sequence
  // gets does not depend on the others.
  std::vector<SequenceResult> run(std::span<const SequenceRequest> requests, const OnToken& on_token = {});
  // The same with a say over each sequence. After an exception the generator is of no further use.
  std::vector<SequenceResult> run(std::span<const SequenceRequest> requests, const RunHooks& hooks);

  ModelRunner& runner() { return runner_; }

 private:
  struct Running;
  bool admit(const SequenceRequest& request, std::size_t index);
  void compose_step();
  void take_logits(std::vector<SequenceResult>& results, const RunHooks& hooks);
  void take_token(Running& sequence, SequenceResult& result, const RunHooks& hooks);  // adds the next token
  void drop_unwanted(std::vector<SequenceResult>& results, const RunHooks& hooks);

  const Model& model_;
  const Tokenizer* tokenizer_;
  GeneratorOptions options_;
  ModelRunner runner_;
  KVCacheManager kv_;
  std::vector<std::unique_ptr<Running>> running_;
  StepInput step_;
  std::vector<Running*> wanting_;  // whose logits the step gives, in order
  std::vector<float> logits_, processed_;
};

}  // namespace cajal
