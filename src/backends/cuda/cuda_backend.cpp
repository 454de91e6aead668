#include "backends/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "backends/cuda/check.h"
#include "backends/cuda/cuda_target.h"
#include "backends/cuda/executable.h"
#include "backends/cuda/kernel_regions.h"
#include "backends/cuda/program.h"
#include "backends/cuda/rates.h"
#include "backends/cuda/uploader.h"

namespace cajal::cuda {
namespace {

int sm_of(int index) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "asking for the compute capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index), "asking for the compute capability");
  return major * 10 + minor;
}

// What the device is to be taken for: itself, or an older one, whose kernels it runs too.
int least_of(const std::string& target, int sm) { return std::min(sm_of_target(target).value_or(sm), sm); }

class CudaBackend final : public Backend {
 public:
  CudaBackend(int index, const BackendOptions& options)
      : stream_(index),
        sm_(options.target.empty() ? sm_of(index) : least_of(options.target, sm_of(index))),
        kernels_{.sm = sm_, .decode_chain = options.decode_chain},
        target_(make_cuda_target(sm_)),
        pool_(options.num_threads > 0 ? options.num_threads : available_cores()) {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, index), "asking for the device's properties");
    device_name_ = properties.name;
  }

  std::string name() const override { return "cuda"; }
  std::string description() const override {
    return detail::join("cuda:", stream_.device(), " (", device_name_, ", sm_", sm_, ")");
  }
  std::size_t free_bytes() const override {
    stream_.make_current();
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "asking for free memory");
    return free;
  }
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    return std::make_unique<DeviceBuffer>(stream_, bytes);
  }
  bool steps_run_alone() const override { return true; }
  ThreadPool& host_threads() override { return pool_; }
  std::unique_ptr<Uploader> make_uploader() override { return cuda::make_uploader(stream_, pool_.size()); }

  std::string target() const override { return target_->name(); }
  Graph prepare(const Graph& graph) const override { return target_->prepare(graph); }
  std::unique_ptr<Executable> compile(const Graph& prepared) override {
    return make_executable(with_kernel_regions(prepared, sm_), stream_, kernels_);
  }

  DeviceRates measure_rates() const { return cuda::measure_rates(stream_, free_bytes(), sm_); }

 private:
  Stream stream_;
  int sm_;
  KernelOptions kernels_;
  std::unique_ptr<Target> target_;
  std::string device_name_;
  ThreadPool pool_;
};

}  // namespace

std::string why_unusable(int index) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    cudaGetLastError();
    if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice)
      return "this machine has no NVIDIA GPU, or no driver for CUDA 13 (nvidia-smi shows it)";
    return detail::join("CUDA cannot start: ", cudaGetErrorString(error));
  }
  if (index >= count) return detail::join("this machine has ", count, " CUDA device", count == 1 ? "" : "s");
  int major = 0, minor = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index) != cudaSuccess)
    return "CUDA does not say what the device can do";
  if (major * 10 + minor < kLeastSm)
    return detail::join("the device has compute capability ", major, ".", minor, ", and 8.0 is needed");
  return {};
}

std::unique_ptr<Backend> make_cuda_backend(int index, const BackendOptions& options) {
  if (const std::string why = why_unusable(index); !why.empty())
    fail(ErrorCode::unavailable, "device 'cuda:", index, "': ", why, remedy("use --device cpu"));
  auto backend = std::make_unique<CudaBackend>(index, options);
  if (!options.target.empty() && options.target != backend->target())
    fail_other_target(options.target, backend->target());
  return backend;
}

DeviceRates measure_rates(Backend& backend) {
  const auto* ours = dynamic_cast<const CudaBackend*>(&backend);
  CAJAL_CHECK(ours, "a backend of another kind");
  return ours->measure_rates();
}

}  // namespace cajal::cuda
