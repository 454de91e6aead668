#pragma once
// A device whose cache remembers what was written where, so that a wrong block table is an error and not a wrong word.
#include <cstdint>
#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

#include "engine/executor.h"
#include "simulator/fake_model.h"
#include "simulator/simulated_clock.h"

namespace cajal::simulator {

// What goes wrong at the n-th launch, counted from 0.
struct Fault {
  // corrupts: the first row of the step, and what is computed from it, is not finite, as after a bit that flipped.
  enum class Kind { launch_throws, wait_throws, hang, corrupts };
  Kind kind = Kind::launch_throws;
  std::int64_t launch = 0;
};

struct FakeExecutorOptions {
  std::int64_t num_blocks = 2, block_size = 1, max_blocks_per_seq = 1;
  std::int64_t max_num_seqs = 1, max_rows = 1, max_rows_per_seq = 1;
  Clock::Time step_time{};
};

// Every slot holds the state of the whole text up to its token, and which state it came from. A row walks through all
// slots that attention would read and checks that they are one history: what was never written, was written for another
// text, is being written by another sequence, or was ruined by a failed step is noticed at once.
//
// A token of FakeModel's salt tokens at the end of a prompt says under which cache salt its sequence runs. All slots that
// it reads must have been written under the same.
class FakeExecutor final : public Executor {
 public:
  FakeExecutor(const FakeExecutorOptions& options, const FakeModel& model, std::vector<Fault> faults,
               SimulatedClock& clock);

  std::int64_t vocab_size() const override { return model_.behaviour().vocab_size; }
  void launch(const StepInput& input) override;
  [[nodiscard]] bool wait(std::chrono::nanoseconds at_most) override;
  void read_logits(std::int64_t i, std::span<float> into) const override;

  // The first thing that an engine must not do, or an empty text.
  const std::string& error() const { return error_; }
  std::int64_t launches() const { return launches_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t copies() const { return copies_; }
  std::int64_t faults_fired() const { return faults_fired_; }
  std::int64_t corruptions() const { return corruptions_; }
  int failures_in_a_row() const { return failures_in_a_row_; }
  bool hung() const { return phase_ == Phase::hung; }
  void tell_story_to(std::ostream* out) { story_ = out; }

 private:
  struct Slot {
    std::uint64_t state, before;  // of the text with the token and without it
    std::int32_t position = kPoison, salt = kUnknown;
    bool corrupt = false;
  };
  // A row's slot, for the checks across sequences.
  struct Write {
    std::int64_t launch = -1;
    std::int32_t seq_index = 0;
  };
  enum class Phase { idle, launched, done, hung };
  static constexpr std::int32_t kPoison = -1, kUnknown = -1;

  template <class... Parts>
  void complain(const Parts&... parts) const;
  const Fault* due(Fault::Kind kind) const;
  Slot& at(std::span<const std::int32_t> table, std::int64_t position);
  void copy_blocks(const StepInput& input);
  bool check_shape(const StepInput& input);
  bool check_rows(const StepInput& input);
  bool mark_writes(const StepInput& input);
  bool check_history(std::span<const std::int32_t> table, const TokenRow& first);
  bool check_salt(std::span<const std::int32_t> table, const TokenRow& row);
  void write(std::span<const std::int32_t> table, const TokenRow& row, bool corrupt);
  void poison_block(std::int64_t block, std::int64_t from);
  void tell(const StepInput& input) const;

  FakeExecutorOptions options_;
  const FakeModel& model_;
  std::vector<Fault> faults_;
  SimulatedClock& clock_;
  Phase phase_ = Phase::idle;
  std::vector<Slot> slots_;
  std::vector<Write> writes_;  // by slot
  // Of the rows that wanted logits: their states, and whether these are corrupt.
  std::vector<std::pair<std::uint64_t, bool>> logit_states_;
  // Blocks that the step wrote to, and from which slot on.
  std::vector<std::pair<std::int64_t, std::int64_t>> touched_;
  std::int64_t num_rows_ = 0;  // of the step
  std::int64_t launches_ = 0, rows_ = 0, copies_ = 0, faults_fired_ = 0;
  std::int64_t corruptions_ = 0;
  int failures_in_a_row_ = 0;
  mutable std::string error_;
  std::ostream* story_ = nullptr;
};

}  // namespace cajal::simulator
