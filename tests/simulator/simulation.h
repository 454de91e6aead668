#pragma once
// Plays a scenario to its end and checks the engine after every step.
#include <cstdint>
#include <iosfwd>
#include <string>

#include "simulator/sabotage.h"
#include "simulator/scenario.h"

namespace cajal::simulator {

// How much happened: what a simulation never reaches, it does not test.
struct SimulationCounts {
  std::int64_t steps = 0, rows = 0, tokens = 0, requests = 0, refused = 0;
  std::int64_t stopped = 0, full = 0, interrupted = 0, expired = 0, failed = 0, not_finite = 0;
  std::int64_t preemptions = 0, cached_tokens = 0, block_copies = 0, guesses = 0, right_guesses = 0, evicted_blocks = 0;
  std::int64_t ended_engines = 0;

  SimulationCounts& operator+=(const SimulationCounts& other);
};

struct SimulationResult {
  std::string failure;  // what was wrong first, or an empty text
  SimulationCounts counts;
  std::int64_t failed_allocations = 0;
};

struct SimulationOptions {
  std::ostream* story = nullptr;  // tells everything that happens
  Sabotage sabotage = Sabotage::none;
  // Above 0: which call of operator new by the engine after its construction fails, and how many from there on. At the
  // end one more request is made, which must be answered unless the engine says that it has ended.
  std::int64_t failing_allocation = 0, num_failing_allocations = 1;
};

SimulationResult simulate(const Scenario& scenario, const SimulationOptions& options = {});

}  // namespace cajal::simulator
