#pragma once
// What the engine did when, as a file for chrome://tracing and ui.perfetto.dev: the array form of Chrome's trace events.
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "engine/clock.h"

namespace cajal {

// Events go to the file as they come, through a buffer of fixed size, so that a trace of days needs no more memory than
// one of seconds; recording allocates nothing. The file holds whole events only: it loads also if the process dies, and is
// JSON once it is closed. If writing fails, the trace ends there with one warning, and what is recorded later is dropped.
//
// One thread at a time. Times are those of one Clock and stay absolute, so that a trace can be laid beside other tools'.
// Who may or may not trace holds a pointer: `if (trace) trace->complete(…)` is what a trace costs that is not there.
class StepTrace {
 public:
  enum class Track {
    host = 1,  // what the engine's thread does: schedule, sample, deliver
    device,    // steps, from their launch to their end
  };
  // A detail of an event, shown when it is selected.
  struct Arg {
    std::string_view name;
    std::variant<std::int64_t, double, std::string_view> value;
  };
  using Args = std::initializer_list<Arg>;  // at most kMaxArgs
  static constexpr std::size_t kMaxArgs = 8;
  static constexpr std::size_t kMaxText = 128;  // bytes of a name or value; the rest is cut off

  // Creates the file or empties the one that is there; throws Error that names the path. A pipe is refused: whoever reads
  // it could hold up the engine.
  explicit StepTrace(const std::string& path);
  ~StepTrace();  // closes
  StepTrace(const StepTrace&) = delete;
  StepTrace& operator=(const StepTrace&) = delete;

  // A span of a track, told when it is over. Spans of one track lie side by side or one in the other.
  void complete(Track track, std::string_view name, Clock::Time start, Clock::Time end, Args args = {});
  // The same in two parts, for what may never end: a step that hangs shows as begun. end() ends the last one begun.
  void begin(Track track, std::string_view name, Clock::Time start, Args args = {});
  void end(Track track, Clock::Time end);
  void instant(Track track, std::string_view name, Clock::Time at, Args args = {});

  // Numbers that are drawn over time, those of one call stacked.
  void counter(std::string_view name, Clock::Time at, Args values);

  // A sequence from its arrival to its end, on a track of its own, under an id that no other living one has. What is begun
  // twice, as a phase within it, ends in the opposite order.
  void async_begin(std::uint64_t id, std::string_view name, Clock::Time at, Args args = {});
  void async_instant(std::uint64_t id, std::string_view name, Clock::Time at, Args args = {});
  void async_end(std::uint64_t id, std::string_view name, Clock::Time at, Args args = {});

  // The counters of a step.
  struct StepCounters {
    std::int64_t num_running = 0, num_waiting = 0, kv_blocks_used = 0, prefill_rows = 0, decode_rows = 0;
  };
  void step_counters(Clock::Time at, const StepCounters& counters);

  // Hands what is buffered to the operating system; happens by itself once a second of the events' own time.
  void flush();
  // Completes the JSON. What is recorded later is dropped.
  void close();
  bool is_open() const { return fd_ >= 0; }

 private:
  void event(char phase, std::string_view name, Clock::Time at);  // all but the closing brace
  void finish(Args args, Clock::Time at);
  void name_track(int thread, std::string_view name);
  void number(std::string_view key, std::int64_t value);
  void microseconds(std::string_view key, Clock::Time time);
  void text(std::string_view text);
  void args(Args args);
  void give_up(int error);

  std::string path_;
  int fd_ = -1;
  std::string buffer_;          // whole events
  std::int64_t written_ = 0;    // bytes, up to the end of a whole event
  std::int64_t num_open_[3]{};  // by track: begun and not ended
  Clock::Time flushed_{}, last_{};
};

}  // namespace cajal
