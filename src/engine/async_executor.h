#pragma once
// Makes an executor asynchronous whose steps run on the caller's thread, as a CPU's do.
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/executor.h"

namespace cajal {

// Runs the steps of another executor on a thread of its own, so that the engine's thread is free meanwhile and notices
// when a step does not end.
class AsyncExecutor final : public Executor {
 public:
  // Steps with up to so many entries of block tables, over all sequences, need no memory of their own.
  explicit AsyncExecutor(Executor& inner, std::int64_t num_table_entries = 0);
  // Waits for a step that runs; if that step never ends, neither does this.
  ~AsyncExecutor() override;

  std::int64_t vocab_size() const override { return inner_.vocab_size(); }
  void launch(const StepInput& input) override;
  [[nodiscard]] bool wait(std::chrono::nanoseconds at_most) override;
  void read_logits(std::int64_t i, std::span<float> into) const override { inner_.read_logits(i, into); }
  const RowChoice* choice(std::int64_t i) const override { return inner_.choice(i); }

 private:
  enum class State { idle, launched, done, stopping };
  void work();

  Executor& inner_;
  // A copy, because block tables belong to sequences, which may end while the step runs.
  StepInput input_;
  std::vector<std::int32_t> tables_;

  std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::idle;
  std::exception_ptr failure_;
  std::thread thread_;  // last: it uses the others
};

}  // namespace cajal
