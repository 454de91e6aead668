#pragma once
// Attention over a paged cache, in an order that belongs to the row alone:
//
//   a block    64 positions: scores by tensor cores in steps of 16 of the head, times scale * log2(e); m = their maximum,
//              p = 2^(score - m), l = sum of p; o = p V by tensor cores in steps of 16 positions, each p split into two
//              bf16 numbers that hold 16 of its bits.
//   a piece    kPiece positions: its blocks merged in ascending order; m, l and o by themselves.
//   a row      its pieces merged in ascending order; o / l, rounded.
// Boundaries are absolute positions. Blocks without a position that the row sees take no part.
//
// Heads that the tensor-core kernels do not take (f32, odd sizes) go through attention_any, a class of its own.
#include "backends/cuda/kernels/rows.h"

namespace cajal::cuda {

struct AttentionArgs {
  const void *q, *k_cache, *v_cache;
  const std::int32_t *block_tables, *seq_indices, *positions;
  void* y;
  float* scratch;
  Rows rows;
  std::int32_t num_heads, num_kv_heads, head_dim, block_size, max_blocks_per_seq;
  std::int64_t sliding_window;
  float scale;
  Element element;
};

struct AttentionShape {
  Element element;
  std::int32_t rows, num_heads, num_kv_heads, head_dim, block_size, max_blocks_per_seq;
};

bool attention_mma_accepts(const AttentionShape& shape);
std::size_t attention_mma_scratch(const AttentionShape& shape);
void attention_mma(const AttentionArgs& args, cudaStream_t stream);

void attention_any(const AttentionArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
