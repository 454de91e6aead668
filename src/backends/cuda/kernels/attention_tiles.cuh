#pragma once
// Which rows of a step go through tiles, and the kernel for the others.
#include "backends/cuda/kernels/attention.h"

namespace cajal::cuda {

constexpr int kGroup = 16;  // rows whose kernel is chosen together

#ifdef __CUDACC__
// Whether a group of `size` rows goes through tiles: they change sequence at most twice.
__device__ inline bool tiles_for(int most_rows, int changes, int size) {
  return most_rows > kGroup && changes <= 2 && size > 2;
}
// The same for rows first .. first + kGroup - 1.
__device__ inline bool through_tiles(const AttentionArgs& a, int first) {
  if (a.rows.most <= kGroup) return false;
  const int end = min(a.rows.count(), first + kGroup);
  int changes = 0;
  for (int row = first + 1; row < end; ++row) changes += a.seq_indices[row] != a.seq_indices[row - 1];
  return tiles_for(a.rows.most, changes, end - first);
}
#endif

// The other rows, on sm_90; false, and nothing done, where the driver cannot or there are too many.
std::size_t attention_pieces_scratch(const AttentionShape& shape);
bool attention_pieces(const AttentionArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
