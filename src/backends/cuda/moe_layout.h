#pragma once
// The launches of one mixture of experts, and the scratch memory between them.
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/moe.h"

namespace cajal::cuda {

struct MoeShape {
  Element element;
  std::int32_t rows, num_experts, hidden_size, intermediate_size, top_k, sum_parts;
};

struct MoeArgs {
  const void *x, *weights;
  const std::int32_t* ids;
  const void *gate_up, *down;
  void* y;
  std::byte* scratch;
  Rows rows;
  MoeShape shape;
};

struct MoeScratch {
  std::size_t x_rows, places, tiles, num_tiles, gate_up, hidden, out, bytes;  // offsets; bytes in all
};
MoeScratch moe_scratch(const MoeShape& shape);

void run_moe(const MoeArgs& args, void (*linear)(const LinearArgs&, cudaStream_t), cudaStream_t stream);

}  // namespace cajal::cuda
