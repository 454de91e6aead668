#pragma once
// Threads for what the server's own thread may not wait for: rendering, tokenising, asking the engine.
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace cajal::server {

class TaskPool {
 public:
  TaskPool(std::size_t num_threads, std::size_t max_waiting);
  ~TaskPool();  // what waits is dropped, what runs is waited for
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  // False if too many wait. Tasks must not throw.
  bool add(std::function<void()> task);

 private:
  void loop();

  const std::size_t max_waiting_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace cajal::server
