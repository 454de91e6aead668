#pragma once
// Every return code of the CUDA runtime goes through check().
#include <cuda_runtime_api.h>

#include "base/error.h"

namespace cajal::cuda {

// Throws Error(out_of_memory) or Error(unavailable) that says what was being done and what CUDA says of it.
void check(cudaError_t error, std::string_view doing);

}  // namespace cajal::cuda
