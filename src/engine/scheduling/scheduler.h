#pragma once
// Which sequences run in the next step, and with how many tokens.
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/scheduling/sequence.h"
#include "engine/speculation/drafter.h"

namespace cajal {

struct SchedulerOptions {
  std::int64_t max_num_seqs = 64;             // that run side by side
  std::int64_t max_num_batched_tokens = 512;  // rows of one step; at least max_num_seqs
  std::int64_t prefill_chunk_size = 512;      // rows of one prompt in one step, at most
  std::int64_t max_model_len = 1;             // tokens of a sequence
  std::int64_t vocab_size = 1;
};

// The rows of one sequence in a step: its tokens from `first` on, then the guesses.
struct PlannedRows {
  Sequence* sequence = nullptr;  // null if it ended while the step ran
  std::int64_t first = 0;        // position
  std::int64_t num_tokens = 0;   // of its own
  std::span<const std::int32_t> draft;
  bool wants_logits = false;      // of the last of its own tokens and of every guess
  std::int64_t first_logits = 0;  // which of the step's rows of logits is its first
};

// What becomes of sequences while a step is planned. Nothing here may throw or call the scheduler.
class SchedulerEvents {
 public:
  virtual ~SchedulerEvents() = default;
  virtual void on_admitted(Sequence& sequence, std::int64_t num_cached_tokens) noexcept = 0;
  virtual void on_preempted(Sequence& sequence) noexcept = 0;
  // It could not be admitted, and never will be; it is in no queue any more.
  virtual void on_refused(Sequence& sequence, FinishReason reason, std::string_view why) noexcept = 0;
};

// Running sequences that need one row come first, so that streams keep flowing; the rows that are left go to prompts, in
// order, where a long one leaves half of what is left to those behind it; guesses take what nobody else wanted.
//
// Blocks of a whole prompt are taken when a sequence is admitted. When one that generates needs a further block and there is
// none, the running sequence that is last in order gives its blocks back and waits again. The first in order is never
// preempted, so something always comes to its end.
class Scheduler {
 public:
  // Everything must outlive the scheduler; drafter may be null.
  Scheduler(const SchedulerOptions& options, KVCacheManager& kv, Drafter* drafter, SchedulerEvents& events);

  void enqueue(Sequence& sequence);          // to the waiting ones; it is in neither list
  void remove(Sequence& sequence) noexcept;  // from whichever list it is in; its blocks are given back
  void preempt_all() noexcept;               // all that run wait again

  // The rows of the next step; none if there is nothing to do.
  std::span<PlannedRows> schedule();
  // The same rows as a runner takes them. Also hands over the copies of blocks that must come first.
  void fill(StepInput& input);

  std::span<Sequence* const> running() const { return running_; }  // in order
  const WaitingQueue& waiting() const { return waiting_; }
  std::int64_t num_draft_failures() const { return num_draft_failures_; }

 private:
  enum class Admission { admitted, no_room, held_back, refused };
  void plan_decoding();
  bool make_room(Sequence& sequence);
  void admit();
  Admission try_admit(Sequence& sequence);
  bool take_blocks(Sequence& sequence, const Sequence* sibling);
  void start(Sequence& sequence);
  void plan_prompts();
  void plan_drafts();
  void preempt(Sequence& sequence) noexcept;
  std::int64_t most_drafts(const Sequence& sequence) const;

  SchedulerOptions options_;
  KVCacheManager& kv_;
  Drafter* drafter_;
  SchedulerEvents& events_;
  WaitingQueue waiting_;
  std::vector<Sequence*> running_;  // in order
  std::vector<PlannedRows> plan_;
  std::int64_t budget_ = 0;       // rows that are left of the step
  std::size_t num_decoding_ = 0;  // the first so many of the plan
  std::vector<Sequence*> prompts_;
  std::vector<std::int64_t> prompt_rows_;
  std::vector<DraftContext> draft_contexts_;
  std::vector<Draft> drafts_;
  std::int64_t num_draft_failures_ = 0;
  // Who could not be admitted with how many blocks available: not tried again before there are more.
  const Sequence* blocked_ = nullptr;
  std::int64_t blocked_at_ = 0;
};

}  // namespace cajal
