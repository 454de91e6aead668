#pragma once
// Guesses of the tokens that come next. The engine checks them all in one step of the model, so that a wrong guess costs
// time and changes nothing.
#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampler.h"

namespace cajal {

// A sequence that is to be continued.
struct DraftContext {
  std::uint64_t sequence = 0;                // its name, the same from step to step
  std::span<const std::int32_t> tokens;      // all of them, the prompt first; the last one is not in the cache yet
  std::int64_t prompt_length = 0;            // how many of them are the prompt
  const SamplingParams* sampling = nullptr;  // how its tokens are chosen, …
  std::uint32_t sequence_index = 0;          // … and with which random numbers: (seed, sequence_index, position)
  std::int64_t max_tokens = 0;               // at most so many guesses are wanted, and may be 0
};

// Guessed tokens, each after its parent: parents[i] < i, or -1 for the sequence's last token. Without parents they are a
// chain. The engine runs chains; a tree needs an attention mask that no graph has yet.
struct Draft {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> parents;
  void clear() {
    tokens.clear();
    parents.clear();
  }
};

// Not for several threads at once. What it guesses may depend on its context alone, and never on other sequences.
class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual const char* name() const = 0;
  virtual std::int64_t max_draft_tokens() const = 0;
  // drafts[i] for contexts[i]; may leave any of them empty. May throw Error: the engine then goes on without guesses.
  virtual void propose(std::span<const DraftContext> contexts, std::span<Draft> drafts) = 0;
  // The sequence is over, or will begin anew.
  virtual void forget(std::uint64_t sequence) noexcept = 0;
  // Whether it wants the model's hidden states, as EAGLE and Medusa do; no graph gives them yet.
  virtual bool needs_hidden_states() const { return false; }
};

}  // namespace cajal
