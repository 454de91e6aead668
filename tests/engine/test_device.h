#pragma once
// The device that tests of whole models run on: CAJAL_TEST_DEVICE, else the CPU. `make gpu-test` runs them on CUDA too.
#include <cstdlib>
#include <string>

namespace cajal {

inline std::string test_device() {
  const char* named = std::getenv("CAJAL_TEST_DEVICE");
  return named ? named : "cpu";
}

}  // namespace cajal
