#pragma once
// Norms, rotation, the cache's new rows and attention in one launch, for steps of at most kMostDecodeAttentionRows rows: the
// region "qk_norm_rope_kv_write" and the attention that reads it, with the bits of both (attention.h).
#include "backends/cuda/kernels/attention.h"
#include "backends/cuda/kernels/elementwise.h"

namespace cajal::cuda {

constexpr int kMostDecodeAttentionRows = 16;

struct AttentionDecodeArgs {
  QkNormRopeKvWriteArgs heads;
  AttentionArgs attention;
  float* slots;  // attention_decode_bytes(), all ones before the first launch and after each
};

bool attention_decode_accepts(const AttentionShape& shape);
std::size_t attention_decode_bytes(const AttentionShape& shape);
void attention_decode(const AttentionDecodeArgs& args, cudaStream_t stream);

// The same bits from steps of at most most_short_blocks() blocks of 64 positions, counted for each row and each unit of heads
// (attention_units), by a kernel that ends sooner and leaves most of a multiprocessor to the kernels around it:
// attention_short_shared_bytes is what it takes of shared memory there. Two blocks for each multiprocessor; with four
// attention_decode was as fast.
int most_short_blocks();
int attention_units(const AttentionShape& shape);
std::int32_t attention_short_shared_bytes(const AttentionShape& shape);
void attention_short(const AttentionDecodeArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
