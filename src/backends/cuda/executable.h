#pragma once
#include <memory>

#include "backends/cuda/memory.h"
#include "backends/cuda/program.h"

namespace cajal::cuda {

// A graph whose regions all have kernels, ready to be bound to memory of the stream's device.
std::unique_ptr<Executable> make_executable(const Graph& graph, const Stream& stream, const KernelOptions& options);

}  // namespace cajal::cuda
