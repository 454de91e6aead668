#pragma once
#include <memory>
#include <string>

#include "backends/backend.h"
#include "backends/cuda_report.h"
#include "backends/device_rates.h"

namespace cajal::cuda {

// Why device `index` cannot be used: "" if it can. Never throws; a machine without a driver is one reason.
std::string why_unusable(int index);
CudaReport report();
std::unique_ptr<Backend> make_cuda_backend(int index, const BackendOptions& options);
// Of a backend that make_cuda_backend() made.
DeviceRates measure_rates(Backend& backend);

}  // namespace cajal::cuda
