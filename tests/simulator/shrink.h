#pragma once
// Makes a failing scenario small, so that a person can read it.
#include <functional>

#include "simulator/scenario.h"

namespace cajal::simulator {

// Drops events and faults and halves sizes as long as `fails` still says so, at most `max_tries` times.
Scenario shrink(Scenario scenario, const std::function<bool(const Scenario&)>& fails, int max_tries = 3000);

}  // namespace cajal::simulator
