#pragma once
// NVIDIA GPUs by their compute capability.
#include <memory>

#include "backends/target.h"

namespace cajal::cuda {

std::unique_ptr<Target> make_cuda_target(int sm);

}  // namespace cajal::cuda
