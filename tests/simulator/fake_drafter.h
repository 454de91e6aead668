#pragma once
// Guesses that are right as often as a scenario says, and nonsense otherwise.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/speculation/drafter.h"
#include "simulator/fake_model.h"
#include "simulator/random.h"

namespace cajal::simulator {

struct DraftBehaviour {
  std::int64_t max_draft_tokens = 0;  // 0: no drafter
  std::int32_t right_percent = 60;    // of the guesses
  std::int32_t nonsense_percent = 0;  // of the drafts: no tokens of the vocabulary, too many of them, or a tree
  std::int32_t throw_percent = 0;     // of the calls
};

class FakeDrafter final : public Drafter {
 public:
  FakeDrafter(const DraftBehaviour& behaviour, const FakeModel& model)
      : behaviour_(behaviour), model_(model), random_(model.behaviour().seed) {}

  const char* name() const override { return "simulated"; }
  std::int64_t max_draft_tokens() const override { return behaviour_.max_draft_tokens; }
  void propose(std::span<const DraftContext> contexts, std::span<Draft> drafts) override;
  void forget(std::uint64_t sequence) noexcept override { known_.erase(sequence); }

  // Sequences that it was asked about and not told to forget.
  std::size_t num_known() const { return known_.size(); }
  const std::string& error() const { return error_; }

 private:
  // What it said last: after so many tokens, these.
  struct Guess {
    std::size_t length = 0;
    std::vector<std::int32_t> tokens;
  };
  void check_context(const DraftContext& context);
  void guess(const DraftContext& context, Draft& draft);
  void talk_nonsense(const DraftContext& context, Draft& draft);

  DraftBehaviour behaviour_;
  const FakeModel& model_;
  Random random_;
  std::map<std::uint64_t, Guess> known_;  // by sequence
  std::string error_;
};

}  // namespace cajal::simulator
