#pragma once
// decode_persistent: all decoder layers of a step of at most 16 rows, the final norm and the head in one launch. Every block
// stays on its multiprocessor and streams its share of all weights through one ring, in the order in which it will need
// them; activations pass from operation to operation through buffers in which data is its own flag (persistent_ring.cuh).
// The numerics are those of linear.h, elementwise.h and attention.h.
//
// Off by default (BackendOptions::one_launch_decode). On an H200 earlier states of it gave the bits of many launches on all
// shapes tried and were about a tenth faster for 8B; this state, and the way through a compiled graph, have not run on a
// device. docs/decisions/0017-persistent-decode.md says what is known and what to do next.
#include <cuda.h>

#include "backends/cuda/kernels/rows.h"

namespace cajal::cuda {

constexpr int kMostDecodeRows = 16, kMostDecodeLayers = 64, kMostWindows = 2;

struct DecodeLayer {
  const void *input_norm, *qkv, *q_norm, *k_norm, *o, *post_norm, *gate_up, *down;
  const void *qkv_bias, *o_bias;  // or null
  void *k_cache, *v_cache;
  std::int32_t window;  // index into DecodeArgs::windows
};

// Weights are Packed{8, 8}; everything is bf16.
struct DecodeArgs {
  Rows tokens, logits_rows;
  std::int32_t num_layers, hidden, num_heads, num_kv_heads, head_dim, intermediate, vocabulary;
  std::int32_t o_parts, down_parts;
  std::int32_t max_blocks_per_seq;
  std::int32_t windows[kMostWindows];  // sliding windows; 0: none
  float epsilon, scale;
  const void *x, *table, *final_norm, *head;  // x [rows, hidden]; table [rows, 2, head_dim / 2]
  const std::int32_t *slot_mapping, *block_tables, *seq_indices, *positions, *logits_indices;
  void* logits;
  const std::int32_t* serial;      // of the step: odd and even ones use different halves of the exchange
  std::int32_t exchange_elements;  // of a layer; decode_persistent() fills it in
  std::byte* exchange;             // decode_exchange_bytes(), all ones before the first step
  unsigned long long* stamps;      // or null: [grid, layers * kStampsPerLayer + kStampsBeyond] clocks
  DecodeLayer layers[kMostDecodeLayers];
};

// Caches as the copy engine sees them: rows of head_dim numbers, [blocks * kv_heads * 64, head_dim].
struct DecodeMaps {
  CUtensorMap k[kMostDecodeLayers], v[kMostDecodeLayers];
};

struct DecodeKernel {
  int grid, slots, x_elements, shared_bytes;  // x_elements: of activations that lie in shared memory
};

// Bytes of exchange memory for steps of up to args.tokens.most rows.
std::size_t decode_exchange_bytes(const DecodeArgs& args);
constexpr int kStampsPerLayer = 9, kStampsBeyond = 4;

// Looks at sizes alone; needs no device.
bool decode_persistent_accepts(const DecodeArgs& args);
void decode_persistent(const DecodeArgs& args, const DecodeMaps& maps, cudaStream_t stream);
// The map of a cache; false if the driver refuses. It has as many rows as coordinates reach: block tables name those that exist.
bool encode_cache(CUtensorMap& map, const void* cache, int head_dim);

}  // namespace cajal::cuda
