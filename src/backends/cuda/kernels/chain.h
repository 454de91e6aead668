#pragma once
// chain: what a dense model does between two attentions of a step of at most 16 rows, in one launch: o with its residual, norm,
// gate and up with SiLU, down with its residual, norm, and the next layer's q, k, v or the head. Every block stays on its
// multiprocessor and streams its share of all weights through one ring, in the order in which it will need them; activations
// pass from operation to operation through memory in which data is its own flag (chain_ring.cuh). The numerics are those of
// linear.h and elementwise.h. docs/decisions/0017-one-launch-between-attentions.md says why it is cut there and what it costs.
#include "backends/cuda/kernels/rows.h"

namespace cajal::cuda {

constexpr int kMostChainRows = 16, kMostChainLinears = 4, kChainCopies = 4;

// What becomes of the sums of a linear operation.
enum class ChainResult : std::uint8_t {
  store,     // rounded: for the kernel after this one
  residual,  // rounded, added to `previous` and rounded: for the operation after this one
  silu_mul,  // silu(first half) * second half: the same
  logits     // rounded, of rows that are wanted; none where none are
};

struct ChainLinear {
  const void* weight;    // Packed{8, 8}
  const void* bias;      // or null
  const void* norm;      // of the rows before the product; or null
  const void* x;         // [rows, in_features]
  const void* previous;  // like y
  void* y;
  std::int32_t in_features, out_features, parts;
  ChainResult result;
  bool exchanged;  // x is what this launch writes
};

struct ChainArgs {
  Rows tokens, logits_rows;
  const std::int32_t* logits_indices;
  float epsilon;
  std::int32_t num_linears;
  ChainLinear linears[kMostChainLinears];
  std::int32_t first_block;  // where the dealing of tiles begins, so that launches differ in who has one more
  std::int32_t spare_bytes;  // of shared memory, left for the kernels beside this one
  void* clean;               // filled with ones, for a later launch; or null
  std::int64_t clean_bytes;
  // Or 0. For one row alone: chain_row runs, and what launches leave for themselves and each other lies kChainCopies times, so
  // many bytes apart; `clean` names the first. All launches of a step have it or none.
  std::int64_t copy_apart;
};

// Looks at sizes alone; needs no device. Rows, linears' sizes and spare_bytes count.
bool chain_accepts(const ChainArgs& args);
// Whether a step of one row is faster by chain_row: one whose weights take less time than its multiprocessors wait for each other.
bool chain_row_accepts(const ChainArgs& args);
void chain(const ChainArgs& args, cudaStream_t stream);

}  // namespace cajal::cuda
