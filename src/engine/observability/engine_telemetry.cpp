#include "engine/observability/engine_telemetry.h"

#include <algorithm>

namespace cajal {

EngineTelemetry::EngineTelemetry(EngineObserver& next, EngineMetrics* metrics, StepTrace* trace)
    : next_(next), metrics_(metrics), trace_(trace) {}

EngineLoad EngineTelemetry::load() const {
  const auto blocks = static_cast<double>(core_->kv_cache().num_blocks() - 1);
  const auto free = static_cast<double>(core_->kv_cache().num_available_blocks());
  return {core_->num_running(), core_->num_waiting(), (blocks - free) / blocks};
}

void EngineTelemetry::on_added(const RequestState& state) noexcept {
  const EngineRequest& r = state.request;
  if (metrics_) {
    metrics_->on_request_added(r.n, r.sequence.max_new_tokens);
    metrics_->on_load(load());
  }
  if (trace_)
    for (const auto& s : state.sequences)
      trace_->async_begin(s->id, "sequence", s->times.arrived,
                          {{"request", static_cast<std::int64_t>(r.id)},
                           {"sequence", static_cast<std::int64_t>(s->index)},
                           {"prompt_tokens", s->prompt_length()}});
  next_.on_added(state);
}

void EngineTelemetry::on_refused(const RequestRefusal& refusal) noexcept {
  if (metrics_) metrics_->on_request_refused(refusal.code);
  next_.on_refused(refusal);
}

void EngineTelemetry::on_admitted(const Sequence& s) noexcept {
  if (trace_ && s.times.first_scheduled)
    trace_->async_instant(s.id, "admitted", *s.times.first_scheduled, {{"cached_tokens", s.computed}});
  next_.on_admitted(s);
}

void EngineTelemetry::on_preempted(const Sequence& s) noexcept {
  if (metrics_) metrics_->on_preempted();
  if (trace_ && s.times.last_token) trace_->async_instant(s.id, "preempted", *s.times.last_token);
  next_.on_preempted(s);
}

void EngineTelemetry::on_draft(std::int64_t num_guesses, std::int64_t num_accepted) noexcept {
  if (metrics_) metrics_->on_draft(num_guesses, num_accepted);
  next_.on_draft(num_guesses, num_accepted);
}

void EngineTelemetry::on_step(const StepReport& step) noexcept {
  if (metrics_) count_step(step);
  if (trace_) trace_step(step);
  last_finished_ = step.finished;
  next_.on_step(step);
}

void EngineTelemetry::count_step(const StepReport& step) {
  if (step.failed) metrics_->on_failure(step.timed_out ? EngineFailure::timeout : EngineFailure::step);
  for (; counted_draft_failures_ < step.num_draft_failures; ++counted_draft_failures_)
    metrics_->on_failure(EngineFailure::drafter);
  const KVCacheStatistics& now = core_->kv_cache().statistics();
  const bool follows = last_finished_ > Clock::Time{} && last_finished_ <= step.launched;
  metrics_->on_step({.num_prefill_tokens = step.num_prompt_rows,
                     .num_decode_tokens = step.num_decode_rows + step.num_draft_rows,
                     .prefix_cache_queries = now.prefix_queries - counted_.prefix_queries,
                     .prefix_cache_hits = now.prefix_hits - counted_.prefix_hits,
                     .duration = step.finished - std::min(step.launched, step.finished),
                     .host_time = follows ? step.launched - last_finished_ : Clock::Time{},
                     .load = load()});
  counted_ = now;
}

void EngineTelemetry::trace_step(const StepReport& step) {
  const auto serial = static_cast<std::int64_t>(step.serial);
  const Clock::Time launched = std::max(step.launched, step.scheduled);
  trace_->complete(StepTrace::Track::host, "schedule", step.scheduled, launched,
                   {{"step", serial}, {"running", step.num_running}, {"waiting", step.num_waiting}});
  trace_->complete(StepTrace::Track::device, step.failed ? "failed step" : "step", launched,
                   std::max(launched, step.finished),
                   {{"step", serial},
                    {"prompt_rows", step.num_prompt_rows},
                    {"decode_rows", step.num_decode_rows},
                    {"guesses", step.num_draft_rows},
                    {"accepted", step.num_accepted}});
  trace_->complete(StepTrace::Track::host, "sample", step.finished, step.sampled, {{"step", serial}});
  trace_->step_counters(step.scheduled, {.num_running = step.num_running,
                                         .num_waiting = step.num_waiting,
                                         .kv_blocks_used = step.num_used_kv_blocks,
                                         .prefill_rows = step.num_prompt_rows,
                                         .decode_rows = step.num_decode_rows + step.num_draft_rows});
}

void EngineTelemetry::on_delivered(Clock::Time begin, Clock::Time end) noexcept {
  if (trace_) trace_->complete(StepTrace::Track::host, "deliver", begin, end);
  next_.on_delivered(begin, end);
}

void EngineTelemetry::on_tokens(const Sequence& s, std::optional<Clock::Time> before, std::int64_t count) noexcept {
  const Clock::Time now = *s.times.last_token;
  if (trace_ && !before) trace_->async_instant(s.id, "first_token", now);
  if (metrics_ && before) metrics_->on_tokens(std::chrono::duration<double>(now - *before).count(), count);
  if (metrics_ && !before) {
    metrics_->on_first_token(s.times, s.prompt_length());
    if (count > 1) metrics_->on_tokens(0, count - 1);  // guessed right together with it
  }
  next_.on_tokens(s, before, count);
}

void EngineTelemetry::on_update(const SequenceUpdate& update) noexcept {
  if (update.finish_reason) {
    const RequestTimings& times = *update.times;
    if (trace_)
      trace_->async_end(update.sequence_id, "sequence", *times.finished,
                        {{"finish_reason", to_string(*update.finish_reason)}, {"tokens", times.num_generation_tokens}});
    if (metrics_) {
      metrics_->on_sequence_finished({*update.finish_reason, times, update.num_prompt_tokens});
      metrics_->on_load(load());
    }
  }
  next_.on_update(update);
}

}  // namespace cajal
