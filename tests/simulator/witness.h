#pragma once
// Hears what an engine says of its sequences and compares it with what must come.
#include <cstdint>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/scheduling/engine_core.h"
#include "simulator/oracle.h"
#include "simulator/sabotage.h"
#include "simulator/simulated_clock.h"
#include "simulator/simulation.h"

namespace cajal::simulator {

class Witness final : public EngineObserver {
 public:
  struct Parts {  // all must outlive it
    const FakeModel& model;
    const FakeExecutor& executor;
    const SimulatedClock& clock;
    std::ostream* story = nullptr;
  };
  Witness(const Parts& parts, std::int64_t max_model_len, Sabotage sabotage)
      : model_(parts.model),
        executor_(parts.executor),
        clock_(parts.clock),
        story_(parts.story),
        max_model_len_(max_model_len),
        sabotage_(sabotage) {}

  void expect_request(const EngineRequest& request);  // the engine has taken it
  void expect_abort(RequestId id);                    // of whatever request; the engine is about to hear of it
  void expect_step();

  void on_update(const SequenceUpdate& update) noexcept override;
  void on_step(const StepReport& report) noexcept override;
  void on_admitted(const Sequence& sequence) noexcept override;
  void on_preempted(const Sequence& sequence) noexcept override;
  void on_draft(std::int64_t num_guesses, std::int64_t num_accepted) noexcept override;

  bool is_live(RequestId id) const { return live_.contains(id); }
  std::size_t num_live() const { return live_.size(); }
  std::int64_t num_live_prompt_tokens() const;
  // The first wrong thing, or an empty text.
  const std::string& error() const { return error_; }
  void complain(std::string what) {
    if (error_.empty()) error_ = std::move(what);
  }
  // A live request whose time was over by now, or none.
  std::optional<RequestId> find_overdue() const;
  std::int64_t num_updates() const { return num_updates_; }
  std::int64_t rows_reported() const { return rows_reported_; }
  SimulationCounts& counts() { return counts_; }

 private:
  struct LiveSequence {
    std::optional<Oracle> oracle;  // from its first token on
    const Sequence* running = nullptr;
    std::int64_t admitted = 0;  // in which step it last was
    bool over = false;
  };
  struct Live {
    EngineRequest request;
    std::uint64_t serial = 0;
    bool aborted = false;
    std::uint32_t num_over = 0;
    std::vector<LiveSequence> sequences;
  };

  void check_update(const SequenceUpdate& update);
  void check_token(const SequenceUpdate& update, const Oracle::Next& expected);
  bool may_be_corrupt(const Live& request, const LiveSequence& sequence);
  void note_corruptions();
  void check_early_end(const SequenceUpdate& update, const Live& request);
  void end(const SequenceUpdate& update, Live& request);
  void tell(const SequenceUpdate& update) const;
  // Calls visit(request, sequence) of everything that is served before a sequence, or after it.
  template <class Visit>
  void for_each(bool before, const Sequence& sequence, Visit&& visit);

  const FakeModel& model_;
  const FakeExecutor& executor_;
  const SimulatedClock& clock_;
  std::ostream* story_;
  std::int64_t max_model_len_;
  Sabotage sabotage_;
  std::map<RequestId, Live> live_;
  std::uint64_t next_serial_ = 0;
  std::int64_t step_ = 0, faults_before_ = 0;            // faults before the step
  std::int64_t corruptions_ = 0, last_corruption_ = -1;  // and in which step it was
  std::vector<std::int64_t> numerical_errors_;           // in which steps they were reported
  std::string error_;
  std::int64_t num_updates_ = 0, rows_reported_ = 0;
  SimulationCounts counts_;
};

}  // namespace cajal::simulator
