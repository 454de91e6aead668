#pragma once
// The device that tests of whole models run on: CAJAL_TEST_DEVICE, else the CPU. `make gpu-test` runs them on CUDA too.
// CAJAL_TEST_TARGET names what it is to be taken for: sm_80 has a newer GPU run the portable kernels.
#include <cstdlib>
#include <memory>
#include <string>

#include "backends/backend.h"

namespace cajal {

inline std::unique_ptr<Backend> test_backend(int num_threads) {
  const char* device = std::getenv("CAJAL_TEST_DEVICE");
  const char* target = std::getenv("CAJAL_TEST_TARGET");
  return make_backend(device ? device : "cpu", {.num_threads = num_threads, .target = target ? target : ""});
}

}  // namespace cajal
