#pragma once
// y = x * weight^T (+ bias), for bf16 in one numerics class whatever the kernel and the number of rows: each of `sum_parts`
// equal parts of k is summed from zero by tensor cores in ascending steps of 16 (a last step may be shorter), with f32
// accumulators; the parts are added as a balanced tree; then the bias; then one rounding. On Hopper mma.sync and wgmma of
// any width, with either operand on either side, agree in every bit of that. f32: ascending fused multiply-adds, the same
// parts.
#include "backends/cuda/kernels/rows.h"

namespace cajal::cuda {

// Rows [begin, end) of x go through matrix `group` of a stack.
struct GroupTile {
  std::int32_t group, begin, end, unused;
};

struct LinearArgs {
  const void* x;
  const void* weight;  // bf16: Packed{8, 8}; f32: plain
  const void* bias;    // or null
  void* y;
  Rows rows;
  std::int32_t in_features, out_features, sum_parts;
  Element element;
  // y has half as many columns: round(silu(gate)) * up, gates being the first half of what the weights give and up the
  // second, both rounded. linear_wgmma alone.
  bool gated = false;

  // For stacks of matrices (experts): the tiles of at most `tile_rows` rows that there are to do, and how many.
  const GroupTile* tiles = nullptr;
  const std::int32_t* num_tiles = nullptr;
  std::int32_t most_tiles = 0;
  std::int32_t tile_rows = 0;            // 16, 64 or 128
  std::int64_t group_elements = 0;       // from one matrix of the stack to the next
  const std::int32_t* x_rows = nullptr;  // row i of the product reads x row x_rows[i]; null: i
};

void linear_f32(const LinearArgs& args, cudaStream_t stream);
// Tensor cores through mma.sync, from sm_80 on, any shape.
void linear_mma(const LinearArgs& args, cudaStream_t stream);
// Few rows at the speed of memory: bulk copies of weights into a ring for each warp, from sm_90 on.
bool linear_stream_accepts(const LinearArgs& args);
void linear_stream(const LinearArgs& args, cudaStream_t stream);
// More rows than that, by memory's speed or the matrix units', on sm_90 alone.
bool linear_wgmma_accepts(const LinearArgs& args);
void linear_wgmma(const LinearArgs& args, cudaStream_t stream);

constexpr int kWeightTile = 8;  // rows and columns of a tile of packed weights
constexpr int kMaxSumParts = 8;

}  // namespace cajal::cuda
