#pragma once
// Time that passes when the simulation says so.
#include "engine/clock.h"

namespace cajal::simulator {

class SimulatedClock final : public Clock {
 public:
  Time now() const override { return now_; }
  void advance(Time by) { now_ += by; }

 private:
  Time now_{0};
};

}  // namespace cajal::simulator
