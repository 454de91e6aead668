#pragma once
// Whether whoever launched this process is still there. From before the ranks have found each other: one that waits for the
// others must not outlive its launcher either.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace cajal {

class LauncherWatch {
 public:
  explicit LauncherWatch(int rank);
  ~LauncherWatch();
  LauncherWatch(const LauncherWatch&) = delete;
  LauncherWatch& operator=(const LauncherWatch&) = delete;

  // Ends this process where what is being done has not been by then: for calls of others that know no time-out.
  void limit(const std::string& doing, std::chrono::milliseconds time);
  void no_limit();

 private:
  using Clock = std::chrono::steady_clock;
  void run();

  const int rank_;
  const int launcher_;  // process id
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::string doing_;
  Clock::time_point until_ = Clock::time_point::max();
  std::thread thread_;
};

}  // namespace cajal
