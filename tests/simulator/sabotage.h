#pragma once
// Engines that are broken on purpose, by what stands around them: a simulation that finds nothing wrong with them is no
// good.
#include <cstdint>
#include <vector>

#include "engine/executor.h"

namespace cajal::simulator {

enum class Sabotage {
  none,
  // what the executor is given
  wrong_slot,      // a row writes where another sequence's does
  shared_block,    // the last block of a sequence is that of another
  stale_block,     // a block table names one block twice
  lost_copy,       // copies of blocks are not made
  wrong_token,     // a row has another token than its sequence
  wrong_position,  // a row is one too far
  swapped_logits,  // two rows get each other's logits
  // what the engine is told
  forgotten_abort,
  lost_request,  // one that was taken never reaches the engine
  // what it says
  lost_update,
  doubled_update,
  late_end,  // the last update does not say that it is the last
};

// Stands between an engine and its executor and spoils what passes, every few steps.
class SabotagedExecutor final : public Executor {
 public:
  SabotagedExecutor(Executor& executor, Sabotage sabotage, std::int64_t block_size)
      : executor_(executor), sabotage_(sabotage), block_size_(block_size) {}

  std::int64_t vocab_size() const override { return executor_.vocab_size(); }
  void launch(const StepInput& input) override;
  [[nodiscard]] bool wait(std::chrono::nanoseconds at_most) override { return executor_.wait(at_most); }
  void read_logits(std::int64_t i, std::span<float> into) const override;

 private:
  void spoil(StepInput& input);

  Executor& executor_;
  Sabotage sabotage_;
  std::int64_t block_size_;
  std::int64_t launches_ = 0, num_logits_ = 0;
  std::vector<std::int32_t> table_;  // what a spoilt block table points to
};

}  // namespace cajal::simulator
