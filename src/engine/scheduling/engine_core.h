#pragma once
// The engine: many requests, one step after another. No threads, no time and no randomness of its own, so that it can be
// simulated.
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "engine/clock.h"
#include "engine/executor.h"
#include "engine/scheduling/kv_cache_manager.h"
#include "engine/scheduling/scheduler.h"
#include "engine/scheduling/sequence.h"

namespace cajal {

struct SamplingScratch;
class ThreadPool;
class Tokenizer;

// What may be asked of an engine beyond what its steps can carry: limits that a model was exported with.
struct RequestLimits {
  std::int64_t max_prompt_len = 0;  // tokens; 0: as long as a sequence
  std::int64_t max_top_k = 0;       // 0: any
  bool logits = true;               // log-probabilities
};

struct EngineCoreOptions {
  std::int64_t max_num_seqs = 64;                            // that run side by side
  std::int64_t max_num_batched_tokens = 512;                 // rows of one step
  std::int64_t prefill_chunk_size = 512;                     // rows of one prompt in one step, at most
  std::int64_t max_model_len = 1;                            // tokens of a sequence
  std::int64_t max_num_waiting = 1024;                       // sequences that wait for their first step
  std::int64_t max_waiting_tokens = std::int64_t{64} << 20;  // of the prompts of requests that are not over
  std::int64_t num_kv_blocks = 2;                            // the spare one included
  std::int64_t kv_block_size = kKvBlockSize;
  bool enable_prefix_caching = true;
  bool reserve_slots =
      false;  // a run of blocks for each of max_num_seqs sequences, as Neuron has it; nothing is shared
  std::chrono::nanoseconds step_timeout = std::chrono::minutes(10);  // a step that takes longer ends the engine
  std::function<void(const KVCacheEvent&)> on_kv_event;
  RequestLimits request_limits = {};
};

// Why a request was not taken: an ordinary answer, not an exception.
struct RequestRefusal {
  ErrorCode code = ErrorCode::invalid_argument;  // unavailable: the queue is full, or the engine has ended
  std::string message, remedy;
};

// How a sequence came on: by a token, or to its end, or both at once.
struct SequenceUpdate {
  RequestId request = 0;
  std::uint32_t sequence = 0;                 // among the request's n
  std::uint64_t sequence_id = 0;              // among all
  const GeneratedToken* token = nullptr;      // null: it ended without one
  std::string_view text;                      // what became certain
  std::optional<FinishReason> finish_reason;  // set once, with the last update
  std::string_view error;                     // why, if finish_reason is error or numerical_error
  std::string_view stopped_by;                // the stop string that has ended it, or ""
  const RequestTimings* times = nullptr;      // `finished` is set with the finish reason
  std::int64_t num_prompt_tokens = 0;
};

// What a step was, told when it is over.
struct StepReport {
  std::uint64_t serial = 0;
  // Planning began; the executor had it; its results were there; its tokens were chosen.
  Clock::Time scheduled{}, launched{}, finished{}, sampled{};
  std::int64_t num_prompt_rows = 0, num_decode_rows = 0, num_draft_rows = 0;
  std::int64_t num_accepted = 0;  // of the guesses
  std::int64_t num_running = 0, num_waiting = 0;
  std::int64_t num_kv_blocks = 0, num_used_kv_blocks = 0;  // without the spare one
  std::int64_t num_draft_failures = 0;                     // of all steps so far
  bool failed = false, timed_out = false;
};

// Who hears of it all. Nothing here may throw or call the engine.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void on_update(const SequenceUpdate& update) noexcept = 0;
  virtual void on_step(const StepReport&) noexcept {}
  virtual void on_delivered(Clock::Time /*begin*/, Clock::Time /*end*/) noexcept {
  }  // what a step gave, while the next ran
  virtual void on_added(const RequestState&) noexcept {}
  virtual void on_refused(const RequestRefusal&) noexcept {}
  virtual void on_admitted(const Sequence&) noexcept {}
  virtual void on_preempted(const Sequence&) noexcept {}
  // Of one sequence, by one step, before they are reported; `before`: when the last one came before them, if any did.
  virtual void on_tokens(const Sequence&, std::optional<Clock::Time> /*before*/, std::int64_t /*count*/) noexcept {}
  virtual void on_draft(std::int64_t /*num_guesses*/, std::int64_t /*num_accepted*/) noexcept {}  // of one sequence
};

class EngineCore final : private SchedulerEvents {
 public:
  static constexpr std::uint32_t kMaxSequencesPerRequest = 1024;
  static constexpr int kMaxFailedSteps = 3;  // one after another end the engine

  struct Parts {  // what the engine stands on; all of it must outlive it
    Executor& executor;
    const Clock& clock;
    EngineObserver& observer;
    const Tokenizer* tokenizer = nullptr;  // none: no text
    Drafter* drafter = nullptr;            // none: no speculation
    ThreadPool* threads = nullptr;         // to choose tokens of many sequences at once; never used while a step runs
  };
  // Throws Error if the pool does not hold one sequence of max_model_len, or limits contradict each other.
  EngineCore(const EngineCoreOptions& options, const Parts& parts);
  ~EngineCore() override;
  EngineCore(const EngineCore&) = delete;
  EngineCore& operator=(const EngineCore&) = delete;

  // Checks a request and queues its sequences.
  [[nodiscard]] std::optional<RequestRefusal> add(EngineRequest request) noexcept;
  void abort(RequestId id) noexcept;  // its sequences end as interrupted, at once; of a request that is over: nothing
  void abort_all() noexcept;
  bool has_work() const { return !requests_.empty(); }

  // Takes what the step before gave, launches the next, and reports meanwhile. Never throws: what goes wrong ends the
  // requests that it concerns, or, with one message, all of them and the engine.
  void step() noexcept;
  // Takes and reports what the step before gave without launching another, so that the device is free for other work.
  void settle() noexcept;

  // Why the engine has ended, or an empty text. It takes no requests any more then.
  const std::string& failure() const { return failure_; }
  // Whether a step has been running for longer than the options allow, so that nothing may be freed that it uses.
  bool hangs() const { return hangs_; }

  std::int64_t num_running() const { return static_cast<std::int64_t>(scheduler_.running().size()); }
  std::int64_t num_waiting() const { return static_cast<std::int64_t>(scheduler_.waiting().size()); }
  const KVCacheManager& kv_cache() const { return kv_; }
  // The rows of the step that is running, or that ran last.
  const StepInput& last_step() const { return input_; }
  void clear_prefix_cache() noexcept { kv_.clear_prefix_cache(); }
  // What is wrong with the books, or an empty text.
  std::string find_inconsistency() const;

 private:
  void on_admitted(Sequence& sequence, std::int64_t num_cached_tokens) noexcept override;
  void on_preempted(Sequence& sequence) noexcept override;
  void on_refused(Sequence& sequence, FinishReason reason, std::string_view why) noexcept override;

  std::optional<RequestRefusal> find_fault(const EngineRequest& request) const;
  std::optional<RequestRefusal> find_fault_of_limits(const SequenceRequest& request) const;
  std::optional<RequestRefusal> try_add(EngineRequest request);
  void update(Sequence& sequence, const GeneratedToken* token, std::string_view text, std::string_view error,
              bool last) noexcept;
  void collect() noexcept;
  void take_rows(PlannedRows& rows, SamplingScratch& scratch) noexcept;
  std::optional<std::int32_t> take_token(Sequence& sequence, std::int64_t logits_row, SamplingScratch& scratch);
  void expire() noexcept;
  void launch() noexcept;
  void tell_sampling();
  void deliver() noexcept;
  void prepare(Sequence& sequence) noexcept;
  void report_fresh(Sequence& sequence) noexcept;
  void finish(Sequence& sequence, FinishReason reason, std::string_view why) noexcept;
  void end_request(RequestState& request, FinishReason reason, std::string_view why) noexcept;
  void fail_step(std::string_view why) noexcept;
  void end_engine(std::string_view why) noexcept;
  void destroy(Sequence& sequence) noexcept;

  EngineCoreOptions options_;
  Parts parts_;
  KVCacheManager kv_;
  Scheduler scheduler_;
  std::unordered_map<RequestId, std::unique_ptr<RequestState>> requests_;
  std::uint64_t next_serial_ = 1;
  KVCacheManager::SequenceId next_sequence_ = 1;
  std::int64_t waiting_tokens_ = 0;
  std::optional<Clock::Time> next_deadline_;  // none before it

  StepInput input_;
  std::span<PlannedRows> flight_;      // of the step that runs; empty if none does
  std::vector<Sequence*> deliveries_;  // whose fresh tokens are to be reported
  std::vector<std::unique_ptr<SamplingScratch>> scratch_;
  StepReport report_;
  int failed_steps_ = 0;
  std::string failure_, step_failure_;
  bool hangs_ = false;
};

}  // namespace cajal
