#include "base/thread_pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/cpu_quota.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cajal {
namespace {

using Clock = std::chrono::steady_clock;

// How long a thread watches before it sleeps: a worker for the next job, the caller for the last pieces of this one. Much
// longer than waking takes, since short waits are what a step is full of; much shorter than the milliseconds for which a
// busy system takes a thread off its core, since watching then wastes a share of the core that would be missing later.
constexpr auto kWorkerWatches = std::chrono::microseconds(200);
constexpr auto kCallerWatches = std::chrono::microseconds(100);

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// Sleep while `word` is `value`; may also return early. Without the calls to sched_yield that std::atomic::wait begins with:
// each of them gives a whole slice of the core away on a busy system.
template <class Word>
void sleep_while(const std::atomic<Word>& word, Word value) {
  static_assert(sizeof word == 4 && std::atomic<Word>::is_always_lock_free);
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

template <class Word>
void wake(const std::atomic<Word>& word, int threads) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, threads, nullptr, nullptr, 0);
}

// Whether `done()` came true while watching for at most `time`, with calls of `meanwhile()`.
template <class Done, class Meanwhile>
bool watch(std::chrono::microseconds time, const Done& done, const Meanwhile& meanwhile) {
  const auto give_up = Clock::now() + time;
  for (int spins = 0;; ++spins) {
    if (done()) return true;
    if (spins % 64 == 63 && Clock::now() > give_up) return false;
    meanwhile();
    relax();
  }
}

}  // namespace

// Fetches the beginning of a thread's run of what is upcoming, a few lines a call.
class ThreadPool::Fetcher {
 public:
  Fetcher() = default;
  Fetcher(const Upcoming& upcoming, int thread, int threads) {
    const std::int64_t begin = run_begin(upcoming.count, thread, threads);
    const std::int64_t end = run_begin(upcoming.count, thread + 1, threads);
    at_ = upcoming.first + begin * upcoming.piece_bytes;
    left_ = std::min((end - begin) * upcoming.piece_bytes, kMost);
  }
  void fetch() {
    constexpr int kLines = 4;  // in the time of relax(): about as fast as memory gives them
    for (int i = 0; i < kLines && left_ > 0; ++i, at_ += kLine, left_ -= kLine)
      __builtin_prefetch(at_, 0, kSecondCache);
  }

 private:
  static constexpr std::int64_t kMost = std::int64_t{64} << 10, kLine = 64;
  static constexpr int kSecondCache = 2;
  const std::byte* at_ = nullptr;
  std::int64_t left_ = 0;
};

ThreadPool::ThreadPool(int num_threads)
    : size_(std::max(num_threads, 1)), next_(std::make_unique<Next[]>(static_cast<std::size_t>(size_))) {
  for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  epoch_.fetch_add(2);
  wake(epoch_, std::numeric_limits<int>::max());
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(const Job& job) {
  job_ = job;
  for (int i = 0; i < job.runs; ++i) next_[i].item.store(run_begin(job.n, i, job.runs), std::memory_order_relaxed);
  epoch_.fetch_add(1);  // open; sequentially consistent, so a worker that sees it sees job_
  if (sleeping_.load() > 0) wake(epoch_, std::numeric_limits<int>::max());
  Fetcher fetcher(claim_pieces(0), 0, size());
  epoch_.fetch_add(1);  // closed: whoever comes now leaves again without looking at job_
  wait_for_workers(fetcher);
}

// A worker that is off its core holds its last piece for milliseconds. Sleeping until it is back leaves this core to
// others meanwhile, so that the system owes it to us when both can run.
void ThreadPool::wait_for_workers(Fetcher& fetcher) {
  if (watch(
          kCallerWatches, [this] { return inside_.load() == 0; }, [&] { fetcher.fetch(); }))
    return;
  caller_sleeps_ = true;
  for (int inside; (inside = inside_.load()) != 0;) sleep_while(inside_, inside);
  caller_sleeps_ = false;
}

ThreadPool::Upcoming ThreadPool::claim_pieces(int thread) {
  const Job job = job_;
  for (int i = 0; i < job.runs; ++i) {
    const int run = (thread + i) % job.runs;
    const std::int64_t stop = run_begin(job.n, run + 1, job.runs);
    for (;;) {
      const std::int64_t begin = next_[run].item.fetch_add(job.grain, std::memory_order_relaxed);
      if (begin >= stop) break;
      job.call(job.context, thread, begin, std::min(begin + job.grain, stop));
    }
  }
  return job.upcoming;
}

void ThreadPool::work(int thread) {
  std::uint32_t done = 0;  // the last epoch that this worker has dealt with
  Fetcher fetcher;
  for (;;) {
    std::uint32_t epoch = 0;
    const auto has_work = [&] {
      epoch = epoch_.load();
      return stopping_ || (epoch != done && epoch % 2 == 1);
    };
    while (!watch(kWorkerWatches, has_work, [&] { fetcher.fetch(); })) {
      sleeping_.fetch_add(1);
      sleep_while(epoch_, epoch);
      sleeping_.fetch_sub(1);
    }
    if (stopping_) return;
    inside_.fetch_add(1);
    if (epoch_.load() == epoch) fetcher = Fetcher(claim_pieces(thread), thread, size());
    if (inside_.fetch_sub(1) == 1 && caller_sleeps_) wake(inside_, 1);
    done = epoch;
  }
}

int available_cores() {
  cpu_set_t set;
  int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  // To the nearest: half a core more is worth a thread that the system stops at times, less than that is not.
  if (const auto quota = cpu_quota(); quota && *quota < cores)
    cores = std::max(1, static_cast<int>(std::lround(*quota)));
  return cores;
}

}  // namespace cajal
