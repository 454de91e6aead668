#pragma once
// ops::Linear and ops::Embedding.
#include "backends/cpu/kernels/kernel.h"

namespace cajal::cpu {

// dt is the type of x, weight, bias and y: bf16 or f32. The weight is plain, packed in tiles or quantised.
struct LinearShape {
  DType dtype;
  Storage storage;    // of the weight
  std::int64_t rows;  // at most: the bucket's
  std::int64_t in_features, out_features;
  int sum_parts;
};
struct LinearArgs {
  const std::byte* x;       // [rows, in_features]
  const std::byte* weight;  // [out_features, in_features] as stored
  const std::byte* bias;    // [out_features] or null
  std::byte* y;             // [rows, out_features]
  std::int64_t rows;        // of this step
  std::int64_t in_features, out_features;
  std::int32_t sum_parts;
  DType dtype;
  Packed packed;  // the weight's tile; {1,1} if plain
  // Of a quantised weight, and then the memory that the kernel asked for.
  Quantized quantized = {};
  std::byte* scratch = nullptr;
  bool partial = false;    // y is f32: the sums as they are, without bias
  bool read_once = false;  // weights leave the caches before the next step reads them, whatever is done
};
using LinearKernel = Kernel<LinearShape, LinearArgs>;
std::span<const LinearKernel> linear_kernels();

// The storage that the fastest linear kernels of this machine read for weights of `dtype`.
Storage linear_weight_storage(DType dtype, std::uint32_t isa);
// The same for weights that are to be quantised so; Error(unsupported) if no kernel reads them.
Storage quantized_weight_storage(const Quantized& wanted);
// Error(unsupported) if this machine has no kernels that read Lossless storage as fast as others read what is packed.
void check_lossless_weights(std::uint32_t isa);

struct EmbeddingShape {
  DType dtype;
  Storage storage;
};
struct EmbeddingArgs {
  const std::byte* table;   // [vocab_size, hidden_size] as stored
  const std::int32_t* ids;  // [rows]
  std::byte* y;             // [rows, hidden_size]
  std::int64_t rows, vocab_size, hidden_size;
  DType dtype;
  Packed packed;
  Quantized quantized = {};
  std::int64_t first_row = 0;  // of the table: ids below it, and those behind its last row, have rows of zeros

  // Of the table, for row `row` of y; -1: zeros.
  std::int64_t table_row(std::int64_t row) const {
    const std::int64_t r = ids[row] - first_row;
    return r >= 0 && r < vocab_size ? r : -1;
  }
};
using EmbeddingKernel = Kernel<EmbeddingShape, EmbeddingArgs>;
std::span<const EmbeddingKernel> embedding_kernels();

}  // namespace cajal::cpu
