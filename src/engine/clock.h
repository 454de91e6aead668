#pragma once
// Time as a parameter, so that what depends on it can be simulated.
#include <chrono>

namespace cajal {

class Clock {
 public:
  using Time = std::chrono::nanoseconds;  // since an arbitrary moment
  virtual ~Clock() = default;
  virtual Time now() const = 0;
};

// The machine's monotonic clock.
class SteadyClock final : public Clock {
 public:
  Time now() const override { return std::chrono::steady_clock::now().time_since_epoch(); }
};

}  // namespace cajal
