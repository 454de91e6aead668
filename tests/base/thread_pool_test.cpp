#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <numeric>
#include <thread>
#include <vector>

namespace cajal {
namespace {

// How often each of n items is done. Pieces are disjoint, so this needs no lock.
std::vector<int> times_done(ThreadPool& pool, std::int64_t n, std::int64_t grain, bool runs) {
  std::vector<int> times(static_cast<std::size_t>(n));
  const auto piece = [&](std::int64_t begin, std::int64_t end) {
    EXPECT_TRUE(pool.size() == 1 || end - begin <= grain);
    for (std::int64_t i = begin; i < end; ++i) ++times[static_cast<std::size_t>(i)];
  };
  runs ? pool.parallel_for_runs(n, grain, piece) : pool.parallel_for(n, grain, piece);
  return times;
}

TEST(ThreadPool, EveryItemIsDoneOnceInPiecesOfAtMostTheGrain) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const std::int64_t n : {0, 1, 7, 64, 1000})
      for (const std::int64_t grain : {1, 3, 64, 5000})
        for (const bool runs : {false, true})
          EXPECT_EQ(times_done(pool, n, grain, runs), std::vector<int>(static_cast<std::size_t>(n), 1))
              << threads << " threads, n " << n << ", grain " << grain << (runs ? ", in runs" : "");
  }
}

// Also of memory that is not there.
TEST(ThreadPool, WhatIsUpcomingChangesNothing) {
  const auto nowhere = reinterpret_cast<const std::byte*>(std::uintptr_t{1} << 46);
  const std::vector<std::byte> here(1000);
  ThreadPool pool(3);
  for (const ThreadPool::Upcoming& upcoming :
       {ThreadPool::Upcoming{}, ThreadPool::Upcoming{nowhere, 1 << 20, 4096}, ThreadPool::Upcoming{nowhere, 0, 64},
        ThreadPool::Upcoming{here.data(), 1, 1000}, ThreadPool::Upcoming{here.data(), 1000, 1}}) {
    pool.expect(upcoming);
    for (int job = 0; job < 20; ++job)
      for (const bool runs : {false, true}) EXPECT_EQ(times_done(pool, 100, 3, runs), std::vector<int>(100, 1));
  }
}

TEST(ThreadPool, AThreadDoesItsOwnRunInOrderBeforeItHelpsWithOthers) {
  ThreadPool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<bool> worker_came = false, worker_may_end = false;
  std::vector<std::int64_t> callers, workers;
  pool.parallel_for_runs(10, 2, [&](std::int64_t begin, std::int64_t end) {
    const bool is_caller = std::this_thread::get_id() == caller;
    (is_caller ? callers : workers).push_back(begin);
    if (!is_caller) worker_came = true;
    if (end == 10) worker_may_end = true;
    while (!(is_caller ? worker_came : worker_may_end)) std::this_thread::yield();
  });
  EXPECT_EQ(callers, (std::vector<std::int64_t>{0, 2, 4, 7, 9}));
  EXPECT_EQ(workers, std::vector<std::int64_t>{5});
}

// What a thread keeps for itself under its number is safe without a lock: nobody else has the number meanwhile.
TEST(ThreadPool, ABodyMayAskWhichThreadItIsOn) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    std::vector<std::atomic<int>> inside(static_cast<std::size_t>(threads));
    std::vector<std::int64_t> done(static_cast<std::size_t>(threads));
    const auto piece = [&](int thread, std::int64_t begin, std::int64_t end) {
      ASSERT_TRUE(thread >= 0 && thread < threads);
      const auto t = static_cast<std::size_t>(thread);
      EXPECT_EQ(inside[t].fetch_add(1), 0) << "two pieces at once on thread " << thread;
      done[t] += end - begin;
      inside[t].fetch_sub(1);
    };
    for (int job = 0; job < 200; ++job) {
      pool.parallel_for(97, 1, piece);
      pool.parallel_for_runs(97, 3, piece);
    }
    EXPECT_EQ(std::accumulate(done.begin(), done.end(), std::int64_t{0}), 200 * 2 * 97);
  }
}

TEST(ThreadPool, KnowsWhereRunsBegin) {
  for (const int threads : {1, 2, 3, 5}) {
    const ThreadPool pool(threads);
    for (const std::int64_t n : {1, 2, 7, 10, 64}) {
      std::vector<bool> begins(static_cast<std::size_t>(n) + 1);
      for (int i = 0; i < threads; ++i) begins[static_cast<std::size_t>(n * i / threads)] = true;
      for (std::int64_t at = 0; at < n; ++at) EXPECT_EQ(pool.begins_run(n, at), begins[static_cast<std::size_t>(at)]);
    }
  }
}

TEST(ThreadPool, AJobSeesWhatTheJobBeforeItWrote) {
  ThreadPool pool(3);
  std::vector<std::int64_t> x(100), y(100);
  std::iota(x.begin(), x.end(), 0);
  for (int round = 0; round < 500; ++round) {
    pool.parallel_for(100, 7, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) y[i] = x[99 - i] + 1;
    });
    std::swap(x, y);
  }
  // Every item has moved to the other end and back 250 times, and has grown by one each time.
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ(x[i], static_cast<std::int64_t>(i) + 500);
}

TEST(ThreadPool, WorkersThatFellAsleepWakeUpOrAreNotWaitedFor) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<std::int64_t> sum = 0;
    pool.parallel_for(50, 1, [&](std::int64_t begin, std::int64_t) { sum += begin; });
    EXPECT_EQ(sum, 49 * 50 / 2);
  }
}

TEST(ThreadPool, ACallerThatWaitsForALateWorkerLeavesItsCore) {
  constexpr auto kLate = std::chrono::milliseconds(100);
  ThreadPool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> started = 0;
  bool done = false;
  timespec before, after;
  pool.parallel_for(2, 1, [&](std::int64_t, std::int64_t) {
    ++started;
    while (started < 2) std::this_thread::yield();  // one piece for each
    if (std::this_thread::get_id() == caller) {
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    } else {
      std::this_thread::sleep_for(kLate);
      done = true;
    }
  });
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
  EXPECT_TRUE(done);
  const auto burnt =
      std::chrono::seconds(after.tv_sec - before.tv_sec) + std::chrono::nanoseconds(after.tv_nsec - before.tv_nsec);
  EXPECT_LT(burnt, kLate / 2);
}

TEST(ThreadPool, EndsWhetherItsWorkersWatchOrSleep) {
  for (int round = 0; round < 20; ++round) {
    ThreadPool pool(3);
    if (round % 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST(ThreadPool, ThereIsAtLeastOneCore) { EXPECT_GE(available_cores(), 1); }

}  // namespace
}  // namespace cajal
