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

}  // namespace cajal::cuda
