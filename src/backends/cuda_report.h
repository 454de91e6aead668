#pragma once
// What this build and this machine have of CUDA: facts for people.
#include <cstdint>
#include <string>
#include <vector>

namespace cajal {

struct CudaReport {
  bool built = false;         // this program has the CUDA backend
  std::string architectures;  // that its kernels were compiled for, as CMake names them: "80-virtual;90a"
  std::string runtime;        // "13.0": the runtime that is linked in; no other library of CUDA is used
  std::string driver;         // "13.0": the newest CUDA that the driver knows; empty without a driver
  struct Device {
    std::string name;
    std::string capability;  // "9.0"
    std::uint64_t memory_bytes = 0;
    std::string kernels;  // which lists it runs: "sm_90a and portable", "portable", or why none
  };
  std::vector<Device> devices;
};
// Never throws for a machine that lacks something.
CudaReport cuda_report();

}  // namespace cajal
