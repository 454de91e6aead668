#pragma once
// A story that an engine is put through: plain data, made from a seed.
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <vector>

#include "engine/scheduling/engine_core.h"
#include "simulator/fake_drafter.h"
#include "simulator/fake_executor.h"
#include "simulator/fake_model.h"

namespace cajal::simulator {

// Something that happens to the engine before a step.
struct Event {
  enum class Kind { add, abort, advance_clock };
  Kind kind = Kind::add;
  std::int64_t step = 0;
  std::int64_t after_updates = 0;        // not before so many updates were reported: what an observer would set off
  EngineRequest request;                 // add
  std::optional<Clock::Time> time_left;  // add: the request's deadline, counted from then
  bool must_be_refused = false;          // add: whatever the engine's state is
  RequestId id = 0;                      // abort
  Clock::Time by{};                      // advance_clock
};

struct Scenario {
  std::uint64_t seed = 0;
  EngineCoreOptions options;
  ModelBehaviour model;
  DraftBehaviour draft;
  Clock::Time step_time{1'000'000};
  std::vector<Event> events;  // by step
  std::vector<Fault> faults;
};

// A scenario has a few features, and those in excess.
Scenario make_scenario(std::uint64_t seed);

// One line an event, for people.
void describe(const Scenario& scenario, std::ostream& out);

}  // namespace cajal::simulator
