#pragma once
// The threads that compute. One caller at a time hands out a range; it works along and returns when all of it is done.
//
// Made for steps of microseconds on machines that are also busy with other things: idle workers watch for work for a
// bounded time, then sleep; pieces are claimed one by one, so that a worker that the system has taken off its core
// delays nothing but the piece in its hands; a worker that never woke up is not waited for, and the caller watches for the
// last pieces for a bounded time, then sleeps too.
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace cajal {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // counts the caller: 1 starts no thread
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(begin, end) for disjoint pieces of [0, n), each at most `grain` long, on all threads; a pool of one thread
  // takes the whole at once. The body must not throw and not call the pool. Which thread does which piece is not defined:
  // results must not depend on it.
  template <class Body>
  void parallel_for(std::int64_t n, std::int64_t grain, Body&& body) {
    if (n <= 0) return;
    if (n <= grain || workers_.empty()) {
      body(std::int64_t{0}, n);
      return;
    }
    using Fn = std::remove_reference_t<Body>;
    run(
        n, grain, [](void* context, std::int64_t begin, std::int64_t end) { (*static_cast<Fn*>(context))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, std::int64_t begin, std::int64_t end);
  void run(std::int64_t n, std::int64_t grain, Call call, void* context);
  void work();
  void claim_pieces();
  void wait_for_workers();

  struct alignas(64) Job {
    Call call = nullptr;
    void* context = nullptr;
    std::int64_t n = 0, grain = 1;
  };
  Job job_;
  alignas(64) std::atomic<std::int64_t> next_{0};    // first item that nobody has claimed
  alignas(64) std::atomic<std::uint32_t> epoch_{0};  // odd while a job is open
  alignas(64) std::atomic<int> inside_{0};           // workers that may touch job_
  alignas(64) std::atomic<int> sleeping_{0};
  std::atomic<bool> stopping_{false}, caller_sleeps_{false};
  std::vector<std::thread> workers_;
};

// Cores that this process may use: the affinity mask, lowered by the CPU quota of its cgroups, to the nearest whole one.
int available_cores();

}  // namespace cajal
