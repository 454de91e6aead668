#include <gtest/gtest.h>

#include <sstream>

#include "simulator/failing_new.h"
#include "simulator/oracle.h"
#include "simulator/runner.h"
#include "simulator/shrink.h"

namespace cajal::simulator {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kSeeds = 1000;  // a sanitizer makes each several times slower
#else
constexpr std::uint64_t kSeeds = 10000;
#endif

// --- the engine

TEST(Simulator, FindsNothingWrongInAnySeed) {
  std::cout << "seeds 0.." << kSeeds - 1 << '\n';
  const SeedsResult result = run_seeds(0, kSeeds - 1);
  if (!result.failing_seed) return;
  ADD_FAILURE() << "seed " << *result.failing_seed << ": " << result.failure;
  explain(*result.failing_seed, {}, std::cout);
}

// A branch that no seed reaches would be one that nobody tests.
TEST(Simulator, ReachesEverythingThatCanHappen) {
  const SimulationCounts c = run_seeds(0, 199).counts;
  EXPECT_GT(c.refused, 0);
  EXPECT_GT(c.stopped, 0);
  EXPECT_GT(c.full, 0);
  EXPECT_GT(c.interrupted, 0);
  EXPECT_GT(c.expired, 0);
  EXPECT_GT(c.failed, 0);
  EXPECT_GT(c.not_finite, 0);
  EXPECT_GT(c.preemptions, 0);
  EXPECT_GT(c.cached_tokens, 0);
  EXPECT_GT(c.block_copies, 0);
  EXPECT_GT(c.evicted_blocks, 0);
  EXPECT_GT(c.right_guesses, 0);
  EXPECT_GT(c.guesses, c.right_guesses);
  EXPECT_GT(c.ended_engines, 0);
}

TEST(Simulator, TellsTheSameStoryOfTheSameSeed) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::ostringstream once, again;
    simulate(make_scenario(seed), {.story = &once});
    simulate(make_scenario(seed), {.story = &again});
    EXPECT_EQ(once.str(), again.str()) << "seed " << seed;
  }
}

// Small enough for every allocation to fail in turn, and with as much going on as fits.
std::vector<Scenario> small_scenarios() {
  std::vector<Scenario> small;
  for (std::uint64_t seed = 0; small.size() < 12; ++seed) {
    Scenario s = make_scenario(seed);
    if (s.events.size() < 4) continue;
    s.events.resize(std::min<std::size_t>(s.events.size(), 8));
    for (Event& e : s.events) e.step /= 4;
    small.push_back(std::move(s));
  }
  return small;
}

class FailingAllocations : public testing::TestWithParam<std::int64_t> {};

TEST_P(FailingAllocations, EndRequestsAndNothingElse) {
  if (!kNewCanFail) GTEST_SKIP() << "a sanitizer has operator new of its own";
  std::int64_t total = 0;
  for (const Scenario& scenario : small_scenarios()) {
    const AllocationsResult result = fail_every_allocation(scenario, GetParam());
    EXPECT_EQ(result.failure, "") << "seed " << scenario.seed;
    total += result.num_allocations;
  }
  EXPECT_GT(total, 1000);
}

INSTANTIATE_TEST_SUITE_P(InARow, FailingAllocations, testing::Values(1, 3));

// --- the simulator

class BrokenEngines : public testing::TestWithParam<Sabotage> {};

TEST_P(BrokenEngines, AreFoundWithinFewSeeds) {
  const SeedsResult result = run_seeds(0, 49, {.sabotage = GetParam()});
  EXPECT_TRUE(result.failing_seed.has_value());
}

INSTANTIATE_TEST_SUITE_P(All, BrokenEngines,
                         testing::Values(Sabotage::wrong_slot, Sabotage::shared_block, Sabotage::stale_block,
                                         Sabotage::lost_copy, Sabotage::wrong_token, Sabotage::wrong_position,
                                         Sabotage::swapped_logits, Sabotage::forgotten_abort, Sabotage::lost_request,
                                         Sabotage::lost_update, Sabotage::doubled_update, Sabotage::late_end));

TEST(Shrink, LeavesNothingThatTheFailureDoesNotNeed) {
  const SimulationOptions broken{.sabotage = Sabotage::swapped_logits};
  const SeedsResult result = run_seeds(0, 199, broken);
  ASSERT_TRUE(result.failing_seed.has_value());
  const auto fails = [&](const Scenario& s) { return !simulate(s, broken).failure.empty(); };
  const Scenario large = make_scenario(*result.failing_seed);
  const Scenario small = shrink(large, fails);
  EXPECT_TRUE(fails(small));
  EXPECT_EQ(small.faults.size(), 0u);
  // Two sequences in one step have logits to swap.
  EXPECT_LE(small.events.size(), 2u);
  for (std::size_t i = 0; i < small.events.size(); ++i) {
    Scenario smaller = small;
    smaller.events.erase(smaller.events.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_FALSE(fails(smaller)) << "event " << i << " is not needed";
  }
}

TEST(Shrink, StopsWhenItHasTriedEnough) {
  int tries = 0;
  shrink(
      make_scenario(1), [&](const Scenario&) { return ++tries, true; }, 20);
  EXPECT_LE(tries, 20);
}

TEST(FakeModel, SaysTheSameOfTheSameTextAndSomethingElseOfAnother) {
  const FakeModel model({.seed = 7});
  const auto state = [&](std::initializer_list<std::int32_t> tokens) {
    std::uint64_t s = model.root();
    for (const std::int32_t token : tokens) s = model.next(s, token);
    return s;
  };
  EXPECT_EQ(state({1, 2, 3}), state({1, 2, 3}));
  EXPECT_NE(state({1, 2, 3}), state({2, 1, 3}));
  EXPECT_NE(state({1, 2}), state({1, 2, 0}));
}

}  // namespace
}  // namespace cajal::simulator
