#pragma once
// Attention over a paged cache, in an order that belongs to the row alone:
//
//   a block    64 positions: scores by tensor cores in steps of 16 of the head; m = their maximum times f = scale * log2(e),
//              p = 2^(score * f - m), fused, l = sum of p; o = p V by tensor cores in steps of 16 positions, p rounded
//              to bf16.
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

// From sm_80 on; without scratch a row's cache is not split.
std::size_t attention_mma_scratch(const AttentionShape& shape);
void attention_mma(const AttentionArgs& args, cudaStream_t stream);

// What attention_mma accepts, by sm_90's copy engine and matrix instructions.
std::size_t attention_wgmma_scratch(const AttentionShape& shape);
void attention_wgmma(const AttentionArgs& args, cudaStream_t stream);

void attention_any(const AttentionArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
