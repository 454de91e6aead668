#pragma once
// Text generation for a set of sequences that run together: prompts in chunks, then a token each a step.
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/llm_engine.h"
#include "engine/request.h"
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

// Runs sets of sequences on an engine of its own.
class Generator final : private EngineObserver {
 public:
  // Takes the KV pool's memory. `tokenizer` may be null: no text then. Both must outlive this.
  Generator(const Model& model, const Tokenizer* tokenizer, LLMEngineOptions options);
  ~Generator() override;

  // Runs all sequences to their ends; as many at a time as the pool and max_num_seqs allow, in order. What one sequence
  // gets does not depend on the others. Throws Error for a request that makes no sense, before anything runs, and for a
  // step that failed.
  std::vector<SequenceResult> run(std::span<const SequenceRequest> requests, const OnToken& on_token = {});
  // The same with a say over each sequence.
  std::vector<SequenceResult> run(std::span<const SequenceRequest> requests, const RunHooks& hooks);

  LLMEngine& engine() { return engine_; }
  ModelRunner& runner() { return engine_.runner(); }

 private:
  void on_update(const SequenceUpdate& update) noexcept override;

  LLMEngine engine_;
  // Of the run that is under way.
  std::vector<SequenceResult> results_;
  std::vector<bool> over_;
  const RunHooks* hooks_ = nullptr;
  std::exception_ptr failure_;
};

}  // namespace cajal
