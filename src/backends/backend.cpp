#include "backends/backend.h"

#include <charconv>

#include "backends/cpu/cpu_backend.h"
#include "backends/cuda_report.h"
#include "backends/device_rates.h"
#include "backends/target.h"
#ifdef CAJAL_CUDA
#include "backends/cuda/cuda_backend.h"
#endif

namespace cajal {
namespace {

// "cuda" is "cuda:0".
std::optional<int> cuda_index(std::string_view device) {
  if (device == "cuda") return 0;
  if (!device.starts_with("cuda:")) return std::nullopt;
  device.remove_prefix(5);
  int index = 0;
  const auto [end, error] = std::from_chars(device.data(), device.data() + device.size(), index);
  if (error != std::errc() || end != device.data() + device.size() || index < 0) return std::nullopt;
  return index;
}

}  // namespace

#ifdef CAJAL_CUDA

bool built_with_cuda() { return true; }
DeviceRates measure_device_rates(Backend& backend) {
  return backend.name() == "cuda" ? cuda::measure_rates(backend) : DeviceRates{};
}
std::string why_no_cuda() { return cuda::why_unusable(0); }
CudaReport cuda_report() { return cuda::report(); }

std::unique_ptr<Backend> make_backend(std::string_view device, const BackendOptions& options) {
  if (device == "auto" && !options.target.empty()) device = device_of_target(options.target);
  if (device == "cpu" || (device == "auto" && !why_no_cuda().empty())) return cpu::make_cpu_backend(options);
  if (device == "auto") return cuda::make_cuda_backend(0, options);
  if (const auto index = cuda_index(device)) return cuda::make_cuda_backend(*index, options);
  fail(ErrorCode::invalid_argument, "device '", device, "' is unknown", remedy("use cpu, cuda, cuda:N or auto"));
}

#else

bool built_with_cuda() { return false; }
DeviceRates measure_device_rates(Backend&) { return {}; }
std::string why_no_cuda() { return "this build has no CUDA backend"; }
CudaReport cuda_report() { return {}; }

std::unique_ptr<Backend> make_backend(std::string_view device, const BackendOptions& options) {
  if (device == "auto" && !options.target.empty()) device = device_of_target(options.target);
  if (device == "auto" || device == "cpu") return cpu::make_cpu_backend(options);
  if (cuda_index(device))
    fail(ErrorCode::unsupported, "device '", device, "': ", why_no_cuda(), remedy("use --device cpu"));
  fail(ErrorCode::invalid_argument, "device '", device, "' is unknown", remedy("use --device cpu"));
}

#endif

}  // namespace cajal
