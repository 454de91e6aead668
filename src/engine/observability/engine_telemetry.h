#pragma once
// Hears what the engine does and tells it to metrics, to a trace, and to who waits for the answers.
#include <optional>

#include "engine/observability/metrics.h"
#include "engine/observability/step_trace.h"
#include "engine/scheduling/engine_core.h"

namespace cajal {

class EngineTelemetry final : public EngineObserver {
 public:
  // All must outlive this; metrics and trace may be null.
  EngineTelemetry(EngineObserver& next, EngineMetrics* metrics, StepTrace* trace);

  // Whose load and cache are told of; before the first event.
  void watch(const EngineCore& core) { core_ = &core; }

  void on_update(const SequenceUpdate& update) noexcept override;
  void on_step(const StepReport& step) noexcept override;
  void on_delivered(Clock::Time begin, Clock::Time end) noexcept override;
  void on_added(const RequestState& request) noexcept override;
  void on_refused(const RequestRefusal& refusal) noexcept override;
  void on_admitted(const Sequence& sequence) noexcept override;
  void on_preempted(const Sequence& sequence) noexcept override;
  void on_tokens(const Sequence& sequence, std::optional<Clock::Time> before, std::int64_t count) noexcept override;
  void on_draft(std::int64_t num_guesses, std::int64_t num_accepted) noexcept override;

 private:
  void count_step(const StepReport& step);
  void trace_step(const StepReport& step);
  EngineLoad load() const;

  EngineObserver& next_;
  EngineMetrics* metrics_;
  StepTrace* trace_;
  const EngineCore* core_ = nullptr;
  Clock::Time last_finished_{};  // of the step before
  KVCacheStatistics counted_;
  std::int64_t counted_draft_failures_ = 0;
};

}  // namespace cajal
