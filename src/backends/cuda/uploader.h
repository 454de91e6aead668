#pragma once
#include <memory>

#include "backends/cuda/memory.h"

namespace cajal::cuda {

// For so many threads that make rows at once. Takes pinned memory, and as much of the device's, while it exists.
std::unique_ptr<Uploader> make_uploader(const Stream& stream, int num_threads);

}  // namespace cajal::cuda
