#pragma once
// The ops that work row by row: norms, rotations, activations, copies; and the regions made of them.
#include "backends/cpu/kernels/kernel.h"
#include "graph/op.h"

namespace cajal::cpu {

struct RowShape {
  DType dtype;
  std::int64_t columns;
};

struct RmsNormArgs {
  const std::byte* x;       // [rows, columns]
  const std::byte* weight;  // [columns]
  std::byte* y;             // [rows, columns]
  std::int64_t rows, columns;
  float epsilon;
  DType dtype;
};
using RmsNormKernel = Kernel<RowShape, RmsNormArgs>;
std::span<const RmsNormKernel> rms_norm_kernels();

struct AddArgs {
  const std::byte *a, *b;
  std::byte* y;
  std::int64_t rows, columns;
  DType dtype;
};
using AddKernel = Kernel<RowShape, AddArgs>;
std::span<const AddKernel> add_kernels();

// Region "add_rms_norm": (a, b, weight) -> (sum = a + b, rms_norm(sum)).
struct AddRmsNormArgs {
  const std::byte *a, *b;
  const std::byte* weight;
  std::byte *sum, *y;  // sum may be the same memory as a or b
  std::int64_t rows, columns;
  float epsilon;
  DType dtype;
};
using AddRmsNormKernel = Kernel<RowShape, AddRmsNormArgs>;
std::span<const AddRmsNormKernel> add_rms_norm_kernels();

// ops::SiluMul, and region "silu_mul_halves" (gate_up[T,2N] -> [T,N]): gate and up with their own row strides.
struct SiluMulArgs {
  const std::byte *gate, *up;
  std::byte* y;  // [rows, columns]
  std::int64_t rows, columns;
  std::int64_t input_stride;  // elements from a row of gate (or up) to the next
  DType dtype;
};
using SiluMulKernel = Kernel<RowShape, SiluMulArgs>;
std::span<const SiluMulKernel> silu_mul_kernels();

// ops::SigmoidMul.
struct SigmoidMulArgs {
  const std::byte* gate;  // [rows]
  const std::byte* x;     // [rows, columns]
  std::byte* y;
  std::int64_t rows, columns;
  DType dtype;
};
using SigmoidMulKernel = Kernel<RowShape, SigmoidMulArgs>;
std::span<const SigmoidMulKernel> sigmoid_mul_kernels();

// ops::Slice: columns [begin, begin + columns) of rows of `input_columns`.
struct SliceArgs {
  const std::byte* x;
  std::byte* y;  // [rows, columns]
  std::int64_t rows, columns, input_columns, begin;
  DType dtype;
};
using SliceKernel = Kernel<RowShape, SliceArgs>;
std::span<const SliceKernel> slice_kernels();

// ops::GatherRows.
struct GatherRowsArgs {
  const std::byte* x;           // [any, columns]
  const std::int32_t* indices;  // [rows]
  std::byte* y;                 // [rows, columns]
  std::int64_t rows, columns;
  DType dtype;
};
using GatherRowsKernel = Kernel<RowShape, GatherRowsArgs>;
std::span<const GatherRowsKernel> gather_rows_kernels();

// ops::RotaryTable: columns = head_dim.
struct RotaryTableArgs {
  const ops::RotaryTable* op;
  const std::int32_t* positions;     // [rows]
  const std::int32_t* rope_lengths;  // [rows] or null
  std::byte* y;                      // [rows, 2, columns / 2]
  std::int64_t rows, columns;
  DType dtype;
};
using RotaryTableKernel = Kernel<RowShape, RotaryTableArgs>;
std::span<const RotaryTableKernel> rotary_table_kernels();

// ops::Rope: columns = head_dim.
struct RopeArgs {
  const std::byte* x;      // [rows, num_heads, columns]
  const std::byte* table;  // [rows, 2, columns / 2]
  std::byte* y;
  std::int64_t rows, num_heads, columns;
  DType dtype;
};
using RopeKernel = Kernel<RowShape, RopeArgs>;
std::span<const RopeKernel> rope_kernels();

// Region "qk_norm_rope_kv_write": (qkv[T,(heads+2kv_heads)*D], q_norm[D], k_norm[D], table[T,2,D/2], k_cache, v_cache,
// slot_mapping[T]) -> (q[T,heads,D], k_cache, v_cache): the heads of q and k normalised and rotated, k and v written.
struct QkNormRopeKvWriteShape {
  DType dtype;
  Storage k_storage, v_storage;
  std::int64_t head_dim, block_size;
};
struct QkNormRopeKvWriteArgs {
  const std::byte* qkv;
  const std::byte *q_norm, *k_norm;
  const std::byte* table;
  std::byte *k_cache, *v_cache;
  const std::int32_t* slot_mapping;
  std::byte* q;
  std::int64_t rows, num_heads, num_kv_heads, head_dim, block_size;
  float epsilon;  // of both norms
  DType dtype;
  Packed k_packed, v_packed;
  bool int8_cache = false;  // kv_int8.h
};
using QkNormRopeKvWriteKernel = Kernel<QkNormRopeKvWriteShape, QkNormRopeKvWriteArgs>;
std::span<const QkNormRopeKvWriteKernel> qk_norm_rope_kv_write_kernels();

}  // namespace cajal::cpu
