#include "engine/async_executor.h"

#include <utility>

#include "base/error.h"

namespace cajal {

AsyncExecutor::AsyncExecutor(Executor& inner, std::int64_t num_table_entries) : inner_(inner) {
  tables_.reserve(static_cast<std::size_t>(num_table_entries));
  thread_ = std::thread([this] { work(); });
}

AsyncExecutor::~AsyncExecutor() {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return state_ != State::launched; });
    state_ = State::stopping;
  }
  changed_.notify_all();
  thread_.join();
}

void AsyncExecutor::launch(const StepInput& input) {
  CAJAL_CHECK(state_ == State::idle, "a step is running");
  input_.rows = input.rows;
  input_.block_copies = input.block_copies;
  input_.sampling = input.sampling;
  std::size_t blocks = 0;
  for (const auto& table : input.block_tables) blocks += table.size();
  tables_.clear();
  tables_.reserve(blocks);  // so that they stay where they are
  input_.block_tables.clear();
  for (const auto& table : input.block_tables) {
    const std::size_t begin = tables_.size();
    tables_.insert(tables_.end(), table.begin(), table.end());
    input_.block_tables.emplace_back(tables_.data() + begin, table.size());
  }
  {
    const std::lock_guard lock(mutex_);
    state_ = State::launched;
  }
  changed_.notify_all();
}

bool AsyncExecutor::wait(std::chrono::nanoseconds at_most) {
  std::unique_lock lock(mutex_);
  if (state_ == State::idle) return true;
  if (!changed_.wait_for(lock, at_most, [&] { return state_ == State::done; })) return false;
  state_ = State::idle;
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return true;
}

void AsyncExecutor::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return state_ == State::launched || state_ == State::stopping; });
    if (state_ == State::stopping) return;
    lock.unlock();
    std::exception_ptr failure;
    try {
      inner_.launch(input_);
      if (!inner_.wait(std::chrono::hours(24)))
        fail(ErrorCode::unavailable, "the device has not finished a step within a day");
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    failure_ = failure;
    state_ = State::done;
    changed_.notify_all();
  }
}

}  // namespace cajal
