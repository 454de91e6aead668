#pragma once
#include <memory>
#include <mutex>

#include "backends/cuda/memory.h"

namespace cajal::cuda {

// The right to put a step on a device. A launch whose blocks wait for each other (kernels/chain.h) needs all of them to be
// there at once; two of different streams could each have a half of the multiprocessors and wait for ever. So steps of one
// process follow each other on a device, whichever backend they are of. Steps of other processes do so without us.
class DeviceTurn {
 public:
  // Until the turn is over others wait; the stream waits for the last step of any other.
  explicit DeviceTurn(const Stream& stream);
  // `done` has been recorded behind the step.
  void end(std::shared_ptr<const CudaEvent> done);

 private:
  struct Device;
  static Device& device(int index);

  const Stream& stream_;
  Device& device_;
  std::lock_guard<std::mutex> lock_;
};

}  // namespace cajal::cuda
