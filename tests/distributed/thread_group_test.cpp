#include "distributed/thread_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/error.h"
#include "distributed/communicator_laws.h"

namespace cajal {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::unavailable);
    return e.message();
  }
  return "nothing was thrown";
}

class ThreadGroup : public testing::TestWithParam<int> {};

TEST_P(ThreadGroup, ObeysEveryLaw) {
  run_thread_group(GetParam(), [](Communicator& group) {
    const auto broken = test::first_broken_law(group, 7);
    if (!broken.empty()) fail(ErrorCode::unavailable, broken);
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadGroup, testing::Values(1, 2, 3, 4, 8), testing::PrintToStringParamName());

TEST(ThreadGroupFailure, WhatOneRankThrowsEveryOtherHears) {
  std::atomic<int> heard{0};
  const auto thrown = message_of([&] {
    run_thread_group(4, [&](Communicator& group) {
      const auto row = group.split(group.rank() / 2);
      row->barrier();
      group.barrier();  // whoever still splits would hear it there
      if (group.rank() == 2) fail(ErrorCode::unavailable, "no more memory");
      EXPECT_THAT(message_of([&] {
                    for (;;) row->barrier(), group.barrier();
                  }),
                  HasSubstr("rank 2 ended with an error: rank 2: no more memory"));
      EXPECT_THAT(message_of([&] { group.barrier(); }), HasSubstr("rank 2"));  // and so do calls yet to come
      ++heard;
    });
  });
  EXPECT_EQ(thrown, "rank 2: no more memory");
  EXPECT_EQ(heard, 3);
}

// A group inside of what the error takes away is gone before the error is told.
TEST(ThreadGroupFailure, WhoUnwindsIsHeardOutBeforeItIsCalledGone) {
  run_thread_group(2, [&](Communicator& group) {
    if (group.rank() == 0) {
      EXPECT_THAT(message_of([&] { group.split(0)->barrier(); }), HasSubstr("rank 1: too late for anything else"));
      return;
    }
    EXPECT_EQ(message_of([&] {
                const auto row = group.split(0);
                fail(ErrorCode::unavailable, "gone");
              }),
              "gone");
    std::this_thread::sleep_for(milliseconds(20));
    group.abandon("rank 1: too late for anything else");
  });
}

TEST(ThreadGroupFailure, ARankThatIsGoneIsNotWaitedFor) {
  auto group = make_thread_group(3);
  group[1].reset();
  std::thread other([&] {
    EXPECT_THAT(message_of([&] { group[2]->barrier(); }), HasSubstr("rank 1 has left while others wait for it"));
  });
  EXPECT_THAT(message_of([&] { group[0]->barrier(); }), HasSubstr("rank 1 has left while others wait for it"));
  other.join();
}

TEST(ThreadGroupFailure, ARankThatDoesNotComeInTimeIsNamed) {
  auto group = make_thread_group(2, {.timeout = milliseconds(60)});
  float x = 1;
  EXPECT_THAT(message_of([&] {
                group[0]->all_reduce({&x, 1});
              }),
              HasSubstr("rank 1 did not come to all_reduce within 60 ms"));
}

// A sleeping rank is woken, whenever the other comes: at once, while it watches, when it has long been asleep.
TEST(ThreadGroupFailure, NoWakeUpIsLost) {
  run_thread_group(2, [](Communicator& group) {
    for (int round = 0; round < 60; ++round) {
      if (group.rank() == round % 2) std::this_thread::sleep_for(std::chrono::microseconds(round * 20));
      group.barrier();
    }
  });
}

}  // namespace
}  // namespace cajal
