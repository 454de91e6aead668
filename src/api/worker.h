#pragma once
// The engine's own thread. Prompts go to the engine as they come, which runs them side by side, step by step; whatever else
// needs the model is a task, of which one runs at a time, between steps.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "api/public.h"
#include "engine/llm_engine.h"

namespace cajal {

// Something to be done, shared by who waits for it and the thread that does it. All but `stopped` and `cancellation` is the
// thread's alone until `over` is set.
struct Job {
  // Either prompts to go on from, each with `per_prompt` sequences, …
  std::vector<EngineRequest> requests;
  std::size_t per_prompt = 1;
  bool wants_logprobs = false;
  api::OnDelta on_delta;
  std::optional<std::chrono::nanoseconds> timeout;  // from `arrived` on
  // … or anything else that needs the model.
  std::function<void()> task;

  std::optional<api::Cancellation> cancellation;
  std::atomic<bool> stopped = false;  // as if cancelled

  Clock::Time arrived{};
  bool waits = false;                        // for the first step of any of its sequences, and is counted
  std::size_t num_started = 0;               // of the requests, that the engine was given
  std::size_t num_over = 0;                  // of them
  std::vector<api::Completion> completions;  // by sequence, those of one prompt after those of another
  std::size_t unfinished = 0;
  std::exception_ptr callback_failure, engine_failure;
  std::promise<void> over;

  bool wanted() const { return !stopped && !(cancellation && cancellation->cancelled()); }
};

class Worker final : private EngineObserver {
 public:
  using MakeEngine = std::function<std::unique_ptr<LLMEngine>(EngineObserver&)>;
  // `make_engine` gives the engine that all jobs share, and a new one when one has ended; null for a model that only tasks
  // can use.
  explicit Worker(MakeEngine make_engine);
  ~Worker() override { close(); }
  // Stops every job and waits until it is over. abort() and the like may still be called, and change nothing.
  void close();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  std::future<void> add(std::shared_ptr<Job> job);
  // As add(), for a job that abort() can name; 0 if `max_waiting` of them wait already.
  std::uint64_t add_named(std::shared_ptr<Job> job, std::int64_t max_waiting);
  void abort(std::uint64_t id) noexcept;

  bool closing() const { return closing_; }
  bool is_current_thread() const { return std::this_thread::get_id() == thread_.get_id(); }

  std::string metrics_text() const;  // any thread, at any time
  std::string failure() const;       // as metrics_text(): why there is no engine any more, or empty

  // For a task that takes long, from time to time: lets everybody else come on by a step.
  void step_others();

 private:
  struct Owner {
    std::shared_ptr<Job> job;
    std::size_t first = 0;  // of the request's sequences, among the job's
  };
  void on_update(const SequenceUpdate& update) noexcept override;
  void on_admitted(const Sequence& sequence) noexcept override;

  void push(const std::shared_ptr<Job>& job);
  void give(Job& job, std::size_t sequence, api::Delta delta);
  void end(Job& job, std::size_t sequence, api::FinishReason reason);
  void waits_no_longer(Job& job);
  void loop();
  void sweep_queue();  // ends waiting jobs that nobody wants any more
  void drop_unwanted();
  void start_jobs();
  bool start(const std::shared_ptr<Job>& job);
  std::shared_ptr<Job> take_task();
  void run_task(Job& job);
  void replace_ended_engine();
  void refuse_jobs();

  MakeEngine make_engine_;
  std::unique_ptr<LLMEngine> engine_;  // the thread's alone, as are the next three
  std::unordered_map<RequestId, Owner> owners_;
  RequestId last_request_ = 0;
  std::size_t max_ahead_ = 1;  // requests of one job that the engine has at a time
  std::atomic<bool> closing_ = false;
  std::atomic<std::int64_t> num_waiting_ = 0;  // named jobs

  mutable std::mutex metrics_mutex_;  // of engine_ for who asks for metrics, and of …
  std::string last_metrics_;          // those of the engine that has ended, until there is a new one
  std::string failure_;

  std::mutex mutex_;  // of all that follows
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::unordered_map<std::uint64_t, std::weak_ptr<Job>> named_;
  std::uint64_t last_id_ = 0;

  std::thread thread_;  // last: it uses the others
};

}  // namespace cajal
