#pragma once
// A model on a device that breaks as a test wants it.
#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "base/error.h"
#include "engine/executor.h"

namespace cajal {

// Passes everything on to another executor but what it is told to spoil. Steps are counted from 0.
class FaultyExecutor final : public Executor {
 public:
  explicit FaultyExecutor(Executor& inner) : inner_(inner) {}

  std::function<bool(std::int64_t step)> launch_throws, wait_throws, hangs;
  std::function<bool(const TokenRow&)> logits_are_nan;
  std::vector<bool> launched;  // by step: whether it got as far as the inner one

  std::int64_t vocab_size() const override { return inner_.vocab_size(); }
  void launch(const StepInput& input) override {
    launched.push_back(false);
    if (is(launch_throws)) fail(ErrorCode::unavailable, "the launch failed");
    spoilt_.clear();
    for (const TokenRow& row : input.rows)
      if (row.wants_logits) spoilt_.push_back(logits_are_nan && logits_are_nan(row));
    inner_.launch(input);
    launched.back() = true;
  }
  [[nodiscard]] bool wait(std::chrono::nanoseconds at_most) override {
    if (is(wait_throws)) fail(ErrorCode::unavailable, "the step failed");
    return !is(hangs) && inner_.wait(at_most);
  }
  void read_logits(std::int64_t i, std::span<float> into) const override {
    inner_.read_logits(i, into);
    if (spoilt_[static_cast<std::size_t>(i)]) into[into.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  }

 private:
  bool is(const std::function<bool(std::int64_t)>& fault) const { return fault && fault(std::ssize(launched) - 1); }

  Executor& inner_;
  std::vector<bool> spoilt_;  // by row that wants logits
};

}  // namespace cajal
