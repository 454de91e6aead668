#pragma once
// The launches of one mixture of experts, which of several ways they go, and the scratch memory between them.
#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/kernels/moe.h"

namespace cajal::cuda {

struct MoeShape {
  Element element;
  std::int32_t rows, num_experts, hidden_size, intermediate_size, top_k, sum_parts;
};

// By how many rows an expert can expect; all give the same bits.
enum class MoeWay : std::uint8_t {
  combined,  // streamed weights, two launches
  streamed,  // streamed weights, pairs sorted by every block for itself
  planned,   // streamed weights, pairs sorted by a launch before
  grouped,   // tiles of rows by the matrix units of sm_90
  portable,  // tiles of rows by mma.sync, any shape
};
MoeWay moe_way(const MoeShape& shape, int sm);
const char* moe_kernel_name(MoeWay way, Element element);

struct MoeArgs {
  const void *x, *weights;
  const std::int32_t* ids;
  const void *gate_up, *down;
  void* y;
  std::byte* scratch;
  Rows rows;
  MoeShape shape;
  MoeWay way;
};

struct MoeScratch {
  std::size_t x_rows, places, tiles, num_tiles, gate_up, hidden, out, bytes;  // offsets; bytes in all
};
MoeScratch moe_scratch(const MoeShape& shape, MoeWay way);

void run_moe(const MoeArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
