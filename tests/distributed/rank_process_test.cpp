#include "distributed/rank_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "distributed/communicator_laws.h"
#include "distributed/forked_ranks.h"

namespace cajal {
namespace {

using std::chrono::milliseconds;
using test::ForkedRanks;
using testing::AllOf;
using testing::Each;
using testing::Field;
using testing::HasSubstr;

constexpr auto ends_with_code = [](int code) { return Field(&ForkedRanks::Ended::exit_code, code); };
const auto says = [](const std::string& text) { return Field(&ForkedRanks::Ended::output, HasSubstr(text)); };

// How data goes between processes.
class Transports : public testing::TestWithParam<const char*> {};

std::unique_ptr<RankProcess> join(const std::string& job, int rank, int size, const char* transport) {
  return RankProcess::join(test::rendezvous_at(job, rank, size), test::quick_options(transport));
}

TEST_P(Transports, ObeyEveryLaw) {
  ForkedRanks ranks(4, [job = test::new_job()](int rank) {
    const auto process = join(job, rank, 4, GetParam());
    const auto world = process->take_world();
    const auto broken = test::first_broken_law(*world, 3);
    if (!broken.empty()) fail(ErrorCode::unavailable, broken);
    if (process->transport() != GetParam()) fail(ErrorCode::unavailable, "over ", process->transport());
    if (process->local_rank() != rank || process->local_size() != 4) fail(ErrorCode::unavailable, "wrong place");
  });
  EXPECT_THAT(ranks.wait(), Each(AllOf(ends_with_code(0), Field(&ForkedRanks::Ended::output, ""))));
}

TEST_P(Transports, WhatOneRankThrowsEveryOtherHears) {
  ForkedRanks ranks(3, [job = test::new_job()](int rank) {
    const auto process = join(job, rank, 3, GetParam());
    const auto world = process->take_world();
    const auto pair = world->split(rank / 2);
    if (rank == 1) {
      world->abandon("ended with an error: no more memory");
      fail(ErrorCode::unavailable, "no more memory");
    }
    for (;;) pair->barrier(), world->barrier();
  });
  const auto ended = ranks.wait();
  EXPECT_THAT(ended, Each(ends_with_code(1)));
  EXPECT_THAT(ended[0], says("rank 1 ended with an error: no more memory"));
  EXPECT_THAT(ended[2], says("rank 1 ended with an error: no more memory"));
}

constexpr int kRanks = 3;

// A rank that does what engines do, small collectives with a little work between them, until something throws; the victim
// meets its fate at a point that the seed chooses.
void work_until(int fate, const std::string& job, int rank, const char* transport, unsigned seed) {
  const auto process = join(job, rank, kRanks, transport);
  const auto world = process->take_world();
  const auto row = world->split(rank / 2);
  std::vector<float> x(4096, 1.0F);
  std::mt19937 random(seed * 31 + static_cast<unsigned>(rank));
  for (unsigned step = 0, end = static_cast<unsigned>(random() % 60);; ++step) {
    world->broadcast(std::as_writable_bytes(std::span(x).first(64)), 0);
    if (step == end && rank == static_cast<int>(seed) % kRanks) std::raise(fate);
    row->all_reduce(std::span(x).first(1 + 4095 * (seed % 2)));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
    world->all_reduce(x);
  }
}

// Twenty seeds, five groups at a time.
void meet_fate(int fate, const char* transport, const std::string& told) {
  for (unsigned first = 0; first < 20; first += 5) {
    std::vector<std::unique_ptr<ForkedRanks>> groups;
    for (unsigned seed = first; seed < first + 5; ++seed)
      groups.push_back(std::make_unique<ForkedRanks>(
          kRanks, [=, job = test::new_job()](int rank) { work_until(fate, job, rank, transport, seed); }));
    for (unsigned seed = first; seed < first + 5; ++seed) {
      const int victim = static_cast<int>(seed) % kRanks;
      ForkedRanks& group = *groups[seed - first];
      for (int r = 0; r < kRanks; ++r) {
        if (r == victim) continue;
        EXPECT_THAT(group.wait_for(r), AllOf(ends_with_code(1), says(detail::join("rank ", victim, " ", told))))
            << "rank " << r << ", seed " << seed;
      }
      if (fate != SIGSTOP) continue;
      group.signal(victim, SIGCONT);  // it finds the others gone, and ends too
      EXPECT_THAT(group.wait_for(victim), ends_with_code(1)) << "seed " << seed;
    }
  }
}

TEST_P(Transports, ARankThatIsKilledIsNamedByEveryOther) { meet_fate(SIGKILL, GetParam(), "died"); }
TEST_P(Transports, ARankThatIsStoppedIsNamedByEveryOther) { meet_fate(SIGSTOP, GetParam(), "has stalled"); }

INSTANTIATE_TEST_SUITE_P(Processes, Transports, testing::Values("shared", "tcp"),
                         [](const auto& name) { return std::string(name.param); });

}  // namespace
}  // namespace cajal
