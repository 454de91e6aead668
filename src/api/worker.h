#pragma once
// The engine's own thread: takes what callers ask for, in order, and runs it.
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "api/public.h"
#include "engine/generator.h"

namespace cajal {

// Something to be done, shared by who waits for it and the thread that does it. All but `stopped` and `cancellation` is the
// thread's alone until `over` is set.
struct Job {
  // Either sequences to generate, `per_prompt` of one prompt after those of another, …
  std::vector<SequenceRequest> sequences;
  std::size_t per_prompt = 1;
  bool wants_logprobs = false;
  api::OnDelta on_delta;
  // … or anything else that needs the model.
  std::function<void()> task;

  std::optional<api::Cancellation> cancellation;
  std::atomic<bool> stopped = false;  // as if cancelled

  std::vector<api::Completion> completions;  // by sequence
  std::size_t unfinished = 0;
  std::exception_ptr callback_failure, engine_failure;
  std::promise<void> over;

  bool wanted() const { return !stopped && !(cancellation && cancellation->cancelled()); }
};

class Worker {
 public:
  // `make_generator` gives the generator that all jobs share, and a new one when one has failed.
  explicit Worker(std::function<std::unique_ptr<Generator>()> make_generator);
  ~Worker();  // stops every job and waits until it is over
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  std::future<void> add(std::shared_ptr<Job> job);
  // As add(), for a job that abort() can name; 0 if `max_waiting` jobs wait already.
  std::uint64_t add_named(std::shared_ptr<Job> job, std::size_t max_waiting);
  void abort(std::uint64_t id) noexcept;

  bool closing() const { return closing_; }
  bool is_current_thread() const { return std::this_thread::get_id() == thread_.get_id(); }

  // Ends waiting jobs that nobody wants any more. Called on the thread, before each step.
  void sweep_queue();

 private:
  using Jobs = std::vector<std::shared_ptr<Job>>;
  void push(const std::shared_ptr<Job>& job);
  void loop();
  Jobs take_next();
  void run(const Jobs& jobs);
  void generate(const Jobs& jobs);

  std::function<std::unique_ptr<Generator>()> make_generator_;
  std::unique_ptr<Generator> generator_;  // the thread's alone
  std::atomic<bool> closing_ = false;

  std::mutex mutex_;  // of all that follows
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::unordered_map<std::uint64_t, std::weak_ptr<Job>> named_;
  std::uint64_t last_id_ = 0;

  std::thread thread_;  // last: it uses the others
};

}  // namespace cajal
