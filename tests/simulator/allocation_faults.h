#pragma once
// Lets the n-th call of operator new fail. Only a program that includes failing_new.h has calls that can fail.
#include <cstdint>

namespace cajal::simulator {

class AllocationFaults {
 public:
  // As long as one of these lives, calls are counted, and `count` of them fail from the n-th on, n from 1; none if n is 0.
  class Armed {
   public:
    Armed(std::int64_t n, std::int64_t count) {
      fired = 0;
      until_failure = n;
      failures_left = n > 0 ? count : 0;
    }
    ~Armed() { disarm(); }
    Armed(const Armed&) = delete;
    Armed& operator=(const Armed&) = delete;
  };
  static void disarm() { failures_left = 0; }

  // What is part of the simulation and not of the engine does not count.
  class Pause {
   public:
    Pause() { ++paused; }
    ~Pause() { --paused; }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
  };
  class Resume {
   public:
    Resume() { --paused; }
    ~Resume() { ++paused; }
    Resume(const Resume&) = delete;
    Resume& operator=(const Resume&) = delete;
  };

  // For operator new: whether this call fails.
  static bool next_fails() noexcept {
    if (failures_left == 0 || paused > 0 || --until_failure > 0) return false;
    --failures_left;
    ++fired;
    return true;
  }

  static inline std::int64_t fired = 0;  // failures since the last Armed began

 private:
  static inline std::int64_t until_failure = 0, failures_left = 0;
  static inline int paused = 0;
};

}  // namespace cajal::simulator
