#include "backends/cuda/device_turn.h"

#include <map>

#include "backends/cuda/check.h"

namespace cajal::cuda {

struct DeviceTurn::Device {
  std::mutex mutex;
  std::shared_ptr<const CudaEvent> done;  // of the last step
  cudaStream_t stream = nullptr;          // it was put on
};

DeviceTurn::Device& DeviceTurn::device(int index) {
  static std::mutex mutex;
  static auto& devices = *new std::map<int, Device>;  // never destroyed: CUDA may be gone before we are
  const std::lock_guard lock(mutex);
  return devices[index];
}

DeviceTurn::DeviceTurn(const Stream& stream) : stream_(stream), device_(device(stream.device())), lock_(device_.mutex) {
  if (device_.done && device_.stream != stream.get())
    check(cudaStreamWaitEvent(stream.get(), device_.done->get(), 0), "waiting for another model's step");
}

void DeviceTurn::end(std::shared_ptr<const CudaEvent> done) {
  device_.done = std::move(done);
  device_.stream = stream_.get();
}

}  // namespace cajal::cuda
