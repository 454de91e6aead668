#pragma once
// Many scenarios, each in safety: an engine that aborts or never returns is a failure like any other.
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>

#include "simulator/simulation.h"

namespace cajal::simulator {

// simulate() in a process of its own. What ends that process is the failure.
std::string find_failure(const Scenario& scenario, const SimulationOptions& options = {});

// Plays a scenario with its first call of operator new failing, then with its second, and so on until none fails any more;
// each time `num_failing` in a row. Needs a program that includes failing_new.h.
struct AllocationsResult {
  std::int64_t num_allocations = 0;
  std::string failure;
};
AllocationsResult fail_every_allocation(const Scenario& scenario, std::int64_t num_failing);

struct SeedsResult {
  SimulationCounts counts;
  std::optional<std::uint64_t> failing_seed;
  std::string failure;
};
// Plays seeds first … last up to the first that fails.
SeedsResult run_seeds(std::uint64_t first, std::uint64_t last, const SimulationOptions& options = {});

// The smallest scenario that fails like that, as a story, and how to see it again.
void explain(std::uint64_t seed, const SimulationOptions& options, std::ostream& out);

}  // namespace cajal::simulator
