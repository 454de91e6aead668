#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cajal {
namespace {

constexpr auto kWatchFor = std::chrono::microseconds(200);  // an idle worker burns at most this much before it sleeps

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this] { work(); });
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  epoch_.fetch_add(2);
  epoch_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(std::int64_t n, std::int64_t grain, Call call, void* context) {
  job_ = {call, context, n, std::max<std::int64_t>(grain, 1)};
  next_.store(0, std::memory_order_relaxed);
  epoch_.fetch_add(1);  // open; sequentially consistent, so a worker that sees it sees job_
  if (sleeping_.load() > 0) epoch_.notify_all();
  claim_pieces();
  epoch_.fetch_add(1);  // closed: whoever comes now leaves again without looking at job_
  for (int spins = 0; inside_.load() != 0; ++spins) {
    if (spins < 4096)
      relax();
    else
      std::this_thread::yield();  // a worker sits on its last piece without a core: give it ours
  }
}

void ThreadPool::claim_pieces() {
  const Job job = job_;
  for (;;) {
    const std::int64_t begin = next_.fetch_add(job.grain, std::memory_order_relaxed);
    if (begin >= job.n) return;
    job.call(job.context, begin, std::min(begin + job.grain, job.n));
  }
}

void ThreadPool::work() {
  std::uint32_t done = 0;  // the last epoch that this worker has dealt with
  while (!stopping_) {
    const auto give_up = std::chrono::steady_clock::now() + kWatchFor;
    std::uint32_t epoch = epoch_.load();
    for (int spins = 0; (epoch == done || epoch % 2 == 0) && !stopping_; ++spins) {
      relax();
      if (spins % 64 == 63 && std::chrono::steady_clock::now() > give_up) {
        sleeping_.fetch_add(1);
        epoch_.wait(epoch);
        sleeping_.fetch_sub(1);
      }
      epoch = epoch_.load();
    }
    if (stopping_) return;
    inside_.fetch_add(1);
    if (epoch_.load() == epoch) claim_pieces();
    inside_.fetch_sub(1);
    done = epoch;
  }
}

int available_cores() {
  cpu_set_t set;
  int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  std::string quota;
  double period = 0;
  if (std::ifstream file("/sys/fs/cgroup/cpu.max"); file >> quota >> period && quota != "max" && period > 0)
    cores = std::min(cores, std::max(1, static_cast<int>(std::lround(std::stod(quota) / period))));
  return cores;
}

}  // namespace cajal
