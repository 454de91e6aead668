#include <cuda_runtime_api.h>

#include "backends/cuda/cuda_backend.h"
#include "base/error.h"

namespace cajal::cuda {
namespace {

// 13000 is 13.0.
std::string version_name(int version) {
  return version > 0 ? detail::join(version / 1000, ".", version % 1000 / 10) : std::string();
}

std::string kernels_for(int index, int sm) {
  if (std::string why = why_unusable(index); !why.empty()) return "none: " + why;
  return sm == 90 ? "sm_90a and portable" : "portable";
}

}  // namespace

CudaReport report() {
  CudaReport report;
  report.built = true;
  report.architectures = CAJAL_CUDA_ARCHITECTURES;
  int version = 0, count = 0;
  if (cudaRuntimeGetVersion(&version) == cudaSuccess) report.runtime = version_name(version);
  if (cudaDriverGetVersion(&version) == cudaSuccess) report.driver = version_name(version);
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    report.devices.push_back({.name = properties.name,
                              .capability = detail::join(properties.major, ".", properties.minor),
                              .memory_bytes = properties.totalGlobalMem,
                              .kernels = kernels_for(i, properties.major * 10 + properties.minor)});
  }
  cudaGetLastError();  // a machine without a device is no error of ours
  return report;
}

}  // namespace cajal::cuda
