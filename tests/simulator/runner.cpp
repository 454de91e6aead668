#include "simulator/runner.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ostream>
#include <sstream>

#include "base/error.h"
#include "simulator/shrink.h"

namespace cajal::simulator {
namespace {

constexpr unsigned kSecondsForSeeds = 120;  // for 64 of them: far more than they need, sanitizers included
constexpr unsigned kSecondsForATry = 3;

// What a child tells its parent, also when it does not live to its end.
struct Shared {
  std::uint64_t seed = 0;
  bool failed = false;
  char failure[2048] = {};
  SimulationCounts counts;

  void set_failure(const std::string& text) {
    failed = true;
    std::strncpy(failure, text.c_str(), sizeof(failure) - 1);
  }
};

// Runs body(shared) in a child process; `silent` hides what it has to say on its way out.
template <class Body>
Shared run_apart(bool silent, Body&& body) {
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CAJAL_CHECK(memory != MAP_FAILED);
  auto* shared = new (memory) Shared;
  const pid_t child = ::fork();
  CAJAL_CHECK(child >= 0);
  if (child == 0) {
    if (silent) ::close(STDERR_FILENO);
    try {
      body(*shared);
    } catch (const std::exception& e) {
      shared->set_failure(std::string("an exception left the engine: ") + e.what());
    }
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
  }
  Shared result = *shared;
  ::munmap(memory, sizeof(Shared));
  if (WIFSIGNALED(status))
    result.set_failure(WTERMSIG(status) == SIGALRM ? "a step never returns"
                                                   : std::string("the process died: ") + ::strsignal(WTERMSIG(status)));
  else if (WEXITSTATUS(status) != 0)
    result.set_failure("the process ended with status " + std::to_string(WEXITSTATUS(status)));
  return result;
}

}  // namespace

std::string find_failure(const Scenario& scenario, const SimulationOptions& options) {
  const Shared result = run_apart(true, [&](Shared& shared) {
    ::alarm(kSecondsForATry);
    if (const auto found = simulate(scenario, options); !found.failure.empty()) shared.set_failure(found.failure);
  });
  return result.failure;
}

AllocationsResult fail_every_allocation(const Scenario& scenario, std::int64_t num_failing) {
  const Shared result = run_apart(false, [&](Shared& shared) {
    for (shared.seed = 1;; ++shared.seed) {
      ::alarm(kSecondsForSeeds);
      const SimulationResult found = simulate(scenario, {.failing_allocation = static_cast<std::int64_t>(shared.seed),
                                                         .num_failing_allocations = num_failing});
      if (!found.failure.empty()) return shared.set_failure(found.failure);
      if (found.failed_allocations == 0) return;
    }
  });
  const auto n = static_cast<std::int64_t>(result.seed);
  if (result.failed) return {n, detail::join("allocation ", n, " fails: ", result.failure)};
  return {n - 1, {}};
}

SeedsResult run_seeds(std::uint64_t first, std::uint64_t last, const SimulationOptions& options) {
  const Shared result = run_apart(false, [&](Shared& shared) {
    for (std::uint64_t seed = first; seed <= last; ++seed) {
      shared.seed = seed;
      if (seed % 64 == 0 || seed == first) ::alarm(kSecondsForSeeds);
      const SimulationResult found = simulate(make_scenario(seed), options);
      shared.counts += found.counts;
      if (!found.failure.empty()) return shared.set_failure(found.failure);
    }
  });
  SeedsResult seeds{result.counts, std::nullopt, {}};
  if (result.failed) seeds.failing_seed = result.seed, seeds.failure = result.failure;
  return seeds;
}

namespace {

// The same mistake at another place reads the same.
std::string without_numbers(std::string text) {
  std::erase_if(text, [](char c) { return c >= '0' && c <= '9'; });
  return text;
}

}  // namespace

void explain(std::uint64_t seed, const SimulationOptions& options, std::ostream& out) {
  const Scenario large = make_scenario(seed);
  const std::string failure = without_numbers(find_failure(large, options));
  const auto fails = [&](const Scenario& s) { return without_numbers(find_failure(s, options)) == failure; };
  const Scenario small = failure.empty() ? large : shrink(large, fails);
  out << "seed " << seed << ", made small:\n";
  describe(small, out);
  out.flush();
  run_apart(false, [&](Shared&) {
    ::alarm(kSecondsForATry);
    SimulationOptions told = options;
    told.story = &out;
    out << std::unitbuf;
    simulate(small, told);
  });
  out << find_failure(small, options) << "\nagain: simulator --seed " << seed << " --verbose\n";
}

}  // namespace cajal::simulator
