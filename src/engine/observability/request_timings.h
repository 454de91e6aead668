#pragma once
// When a sequence came by which point of its life. The engine notes the moments; what lies between them follows.
#include <chrono>
#include <cstdint>
#include <optional>

#include "engine/clock.h"

namespace cajal {

struct RequestTimings {
  Clock::Time arrived{};
  // Unset until it happens; a sequence that waits in vain is finished without ever being scheduled.
  std::optional<Clock::Time> first_scheduled, first_token, last_token, finished;
  std::int64_t num_generation_tokens = 0;
  std::int64_t num_preemptions = 0;
  std::int64_t num_cached_tokens = 0;  // of the prompt, that were not computed when it was first scheduled

  // Note the moments, none of them earlier than the one before. A sequence that was preempted is scheduled again, which
  // changes nothing here: its waiting then counts as prefill or decode, as vLLM has it.
  void on_scheduled(Clock::Time now) {
    if (!first_scheduled) first_scheduled = now;
  }
  void on_token(Clock::Time now) {
    if (!first_token) first_token = now;
    last_token = now;
    ++num_generation_tokens;
  }
  void on_finished(Clock::Time now) { finished = now; }

  // In seconds; unset if there was no such time. queue + prefill + decode = inference + queue <= e2e.
  // Until it was scheduled, or until it ended without that.
  std::optional<double> queue_seconds() const { return between(arrived, first_scheduled ? first_scheduled : finished); }
  std::optional<double> prefill_seconds() const { return between(first_scheduled, first_token); }
  std::optional<double> decode_seconds() const { return between(first_token, last_token); }
  std::optional<double> inference_seconds() const { return between(first_scheduled, last_token); }
  std::optional<double> e2e_seconds() const { return between(arrived, finished); }
  std::optional<double> ttft_seconds() const { return between(arrived, first_token); }  // time to first token
  // Time per output token: the mean over those after the first; unset for a single token.
  std::optional<double> tpot_seconds() const {
    if (num_generation_tokens < 2) return std::nullopt;
    return *decode_seconds() / static_cast<double>(num_generation_tokens - 1);
  }

 private:
  static std::optional<double> between(std::optional<Clock::Time> from, std::optional<Clock::Time> to) {
    if (!from || !to) return std::nullopt;
    return std::chrono::duration<double>(*to - *from).count();
  }
};

}  // namespace cajal
