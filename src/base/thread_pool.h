#pragma once
// The threads that compute. One caller at a time hands out a range; it works along and returns when all of it is done.
//
// Made for steps of microseconds on machines that are also busy with other things: idle workers watch for work for a
// bounded time, then sleep; pieces are claimed one by one, so that a worker that the system has taken off its core
// delays nothing but the piece in its hands; a worker that never woke up is not waited for, and the caller watches for the
// last pieces for a bounded time, then sleeps too.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/checked.h"

namespace cajal {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // counts the caller: 1 starts no thread
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Calls body(begin, end) for disjoint pieces of [0, n), each at most `grain` long, on all threads; a pool of one thread
  // takes the whole at once. The body must not throw and not call the pool. Which thread does which piece is not defined:
  // results must not depend on it. One that needs memory of its own for each thread may be body(thread, begin, end), with the
  // number of the thread that it is on, below size().
  template <class Body>
  void parallel_for(std::int64_t n, std::int64_t grain, Body&& body) {
    share_out(n, grain, 1, body);
  }

  // The same, but each thread begins with a run of its own, one of size() that lie side by side, takes its pieces in their
  // order, and helps with other runs only then: for memory that is read from end to end, where whoever did a piece should do
  // the next one too.
  template <class Body>
  void parallel_for_runs(std::int64_t n, std::int64_t grain, Body&& body) {
    share_out(n, grain, size(), body);
  }
  // What a job to come will read in runs: `count` pieces of so many bytes, side by side. Until it is said again, whoever waits
  // for other threads or for work fetches the beginning of its run into its cache. Nothing is read: the memory may be gone.
  struct Upcoming {
    const std::byte* first = nullptr;
    std::int64_t count = 0, piece_bytes = 0;
  };
  void expect(const Upcoming& upcoming) { upcoming_ = upcoming; }
  // Whether a run of [0, n) begins there.
  bool begins_run(std::int64_t n, std::int64_t at) const {
    return run_begin(n, ceil_div(at * size(), n), size()) == at;
  }

 private:
  using Call = void (*)(void* context, int thread, std::int64_t begin, std::int64_t end);
  struct alignas(64) Job {
    Call call = nullptr;
    void* context = nullptr;
    std::int64_t n = 0, grain = 1;
    int runs = 1;
    Upcoming upcoming;
  };
  class Fetcher;
  struct alignas(64) Next {
    std::atomic<std::int64_t> item{0};  // the first one of its run that nobody has claimed
  };

  template <class Body>
  void share_out(std::int64_t n, std::int64_t grain, int runs, Body& body) {
    if (n <= 0) return;
    const Call call = [](void* context, int thread, std::int64_t begin, std::int64_t end) {
      if constexpr (std::is_invocable_v<Body&, int, std::int64_t, std::int64_t>)
        (*static_cast<Body*>(context))(thread, begin, end);
      else
        (*static_cast<Body*>(context))(begin, end);
    };
    if (n <= grain || workers_.empty()) {
      call(const_cast<void*>(static_cast<const void*>(&body)), 0, 0, n);
      return;
    }
    run({call, const_cast<void*>(static_cast<const void*>(&body)), n, std::max<std::int64_t>(grain, 1), runs,
         upcoming_});
  }
  static std::int64_t run_begin(std::int64_t n, std::int64_t run, int runs) { return n * run / runs; }
  void run(const Job& job);
  void work(int thread);
  Upcoming claim_pieces(int thread);
  void wait_for_workers(Fetcher& fetcher);

  const int size_;
  Upcoming upcoming_;
  Job job_;
  std::unique_ptr<Next[]> next_;                     // by run, of as many as there are threads
  alignas(64) std::atomic<std::uint32_t> epoch_{0};  // odd while a job is open
  alignas(64) std::atomic<int> inside_{0};           // workers that may touch job_
  alignas(64) std::atomic<int> sleeping_{0};
  std::atomic<bool> stopping_{false}, caller_sleeps_{false};
  std::vector<std::thread> workers_;
};

// Cores that this process may use: the affinity mask, lowered by the CPU quota of its cgroups, to the nearest whole one.
int available_cores();

}  // namespace cajal
