#include "backends/backend.h"

#include "backends/cpu/cpu_backend.h"

namespace cajal {

std::unique_ptr<Backend> make_backend(std::string_view device, const BackendOptions& options) {
  if (device == "auto" || device == "cpu") return cpu::make_cpu_backend(options.num_threads);
  if (device.starts_with("cuda"))
    fail(ErrorCode::unsupported, "device '", device, "': this build has no CUDA backend", remedy("use --device cpu"));
  fail(ErrorCode::invalid_argument, "device '", device, "' is unknown", remedy("use --device cpu"));
}

}  // namespace cajal
