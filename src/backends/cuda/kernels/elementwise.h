#pragma once
// Ops that work row by row, embeddings, rotations, and the regions made of them. All pointers are device memory; rows are
// dense unless a stride is given. Each function launches on the stream; errors stay in cudaGetLastError().
#include "backends/cuda/kernels/rows.h"

namespace cajal::cuda {

// A matrix in Packed{rows, group} storage, or Plain as {1, 1}.
struct Tile {
  std::int32_t rows = 1, group = 1;
};

struct EmbeddingArgs {
  const void* table;
  const std::int32_t* ids;
  void* y;
  Rows rows;
  std::int64_t hidden_size;
  Tile tile;
  Element element;
};
void embedding(const EmbeddingArgs& args, cudaStream_t stream);

struct GatherRowsArgs {
  const void* x;
  const std::int32_t* indices;
  void* y;
  Rows rows;
  std::int64_t columns;
  Element element;
};
void gather_rows(const GatherRowsArgs& args, cudaStream_t stream);

// y = rms_norm(x) * weight; with `b`, x is a, sum = a + b is written too, and the norm is of that.
struct RmsNormArgs {
  const void *x, *b;  // b may be null
  const void* weight;
  void *sum, *y;
  Rows rows;
  std::int32_t columns;
  float epsilon;
  Element element;
};
void rms_norm(const RmsNormArgs& args, cudaStream_t stream);

struct RotaryTableArgs {
  const std::int32_t* positions;
  const float* inv_freq;  // [columns / 2], or [rows, columns / 2] with row_frequencies
  bool row_frequencies;
  void* y;  // [rows, 2, columns / 2]
  Rows rows;
  std::int32_t columns;
  float attention_scaling;
  Element element;
};
void rotary_table(const RotaryTableArgs& args, cudaStream_t stream);

struct RopeArgs {
  const void *x, *table;
  void* y;
  Rows rows;  // tokens
  std::int32_t num_heads, columns;
  Element element;
};
void rope(const RopeArgs& args, cudaStream_t stream);

// y = round(round(silu(gate)) * up); gate and up have rows `input_stride` elements apart.
struct SiluMulArgs {
  const void *gate, *up;
  void* y;
  Rows rows;
  std::int64_t columns, input_stride;
  Element element;
};
void silu_mul(const SiluMulArgs& args, cudaStream_t stream);

// y[row] = round(sigmoid(gate[row])) * x[row]; gate is [rows, 1].
struct SigmoidMulArgs {
  const void *gate, *x;
  void* y;
  Rows rows;
  std::int64_t columns;
  Element element;
};
void sigmoid_mul(const SigmoidMulArgs& args, cudaStream_t stream);

struct AddArgs {
  const void *a, *b;
  void* y;
  Rows rows;
  std::int64_t columns;
  Element element;
};
void add(const AddArgs& args, cudaStream_t stream);

struct SliceArgs {
  const void* x;
  void* y;
  Rows rows;
  std::int64_t columns, input_columns, begin;
  Element element;
};
void slice(const SliceArgs& args, cudaStream_t stream);

struct KvWriteArgs {
  void* cache;
  const void* x;
  const std::int32_t* slot_mapping;
  Rows rows;
  std::int32_t num_kv_heads, head_dim, block_size;
  Element element;
};
void kv_write(const KvWriteArgs& args, cudaStream_t stream);

// Region "qk_norm_rope_kv_write".
struct QkNormRopeKvWriteArgs {
  const void *qkv, *q_norm, *k_norm, *table;
  void *k_cache, *v_cache;
  const std::int32_t* slot_mapping;
  void* q;
  Rows rows;
  std::int32_t num_heads, num_kv_heads, head_dim, block_size;
  float epsilon;
  Element element;
};
void qk_norm_rope_kv_write(const QkNormRopeKvWriteArgs& args, cudaStream_t stream);

constexpr std::int32_t kMaxHeadDim = 512;

}  // namespace cajal::cuda
