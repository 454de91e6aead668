#pragma once
// chain_row: chain for steps of one row (chain.h), by a kernel of its own.
#include "backends/cuda/kernels/chain.h"

namespace cajal::cuda {

void chain_row(const ChainArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
