// simulator --seeds 0..99999 | --seed 17 [--verbose]: plays scenarios against the engine until one fails.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

#include "simulator/runner.h"

namespace cajal::simulator {
namespace {

struct Arguments {
  std::uint64_t first = 0, last = 1999;
  bool verbose = false;
};

bool parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--verbose") {
      arguments.verbose = true;
      continue;
    }
    if ((name != "--seeds" && name != "--seed") || ++i == argc) return false;
    const std::string value = argv[i];
    const std::size_t dots = value.find("..");
    char* end = nullptr;
    arguments.first = std::strtoull(value.c_str(), &end, 10);
    if (end == value.c_str()) return false;
    arguments.last = dots == std::string::npos ? arguments.first : std::strtoull(value.c_str() + dots + 2, nullptr, 10);
    if (arguments.last < arguments.first) return false;
  }
  return true;
}

void print(const SimulationCounts& c, double seconds) {
  std::cout << c.steps << " steps (" << static_cast<std::int64_t>(static_cast<double>(c.steps) * 60 / seconds)
            << " a minute), " << c.rows << " rows, " << c.requests << " requests, " << c.refused << " refused, "
            << c.tokens << " tokens\nends: " << c.stopped << " stop, " << c.full << " length, " << c.interrupted
            << " interrupted, " << c.expired << " deadline_exceeded, " << c.failed << " error, " << c.not_finite
            << " numerical_error, " << c.ended_engines << " whole engines\n"
            << c.preemptions << " preemptions, " << c.cached_tokens << " cached tokens, " << c.evicted_blocks
            << " blocks evicted, " << c.block_copies << " copied, " << c.guesses << " guesses, " << c.right_guesses
            << " of them right\n";
}

int run(const Arguments& arguments) {
  if (arguments.verbose && arguments.first == arguments.last) {
    const Scenario scenario = make_scenario(arguments.first);
    describe(scenario, std::cout);
    std::cout << std::unitbuf;
    const std::string failure = simulate(scenario, {.story = &std::cout}).failure;
    std::cout << (failure.empty() ? "nothing is wrong" : failure) << '\n';
    return failure.empty() ? 0 : 1;
  }
  const auto start = std::chrono::steady_clock::now();
  const SeedsResult result = run_seeds(arguments.first, arguments.last);
  print(result.counts, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  if (!result.failing_seed) {
    std::cout << "seeds " << arguments.first << ".." << arguments.last << ": nothing is wrong\n";
    return 0;
  }
  std::cout << "seed " << *result.failing_seed << " fails: " << result.failure << "\n\n" << std::flush;
  explain(*result.failing_seed, {}, std::cout);
  return 1;
}

}  // namespace
}  // namespace cajal::simulator

int main(int argc, char** argv) {
  cajal::simulator::Arguments arguments;
  if (!cajal::simulator::parse(argc, argv, arguments)) {
    std::cerr << "usage: simulator [--seeds FIRST..LAST | --seed SEED [--verbose]]\n";
    return 2;
  }
  return cajal::simulator::run(arguments);
}
