#pragma once
// Linear and Embedding over quantised weights: what linear.cpp and embedding.cpp list.
#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/kernels/quant_tiles.h"

namespace cajal::cpu {

// The numerics class of every kernel with quantised weights: x rounded to 8 bits by groups, exact sums of integers within a
// group, and then, for the groups in ascending order, sum = fma(float(group's), u * x scale, sum); the sum of
// all times the power of two of the weight's row.
constexpr const char* kQuantClass = "8-bit activations by groups, exact within, fma f32 over groups";

void run_quant_linear(const QuantBlockTable& table, const LinearArgs& args, ThreadPool& pool);
void run_quant_linear(const QuantTiles& tiles, const LinearArgs& args, ThreadPool& pool);
void run_quant_linear_ref(const LinearArgs& args, ThreadPool& pool);
std::size_t quant_linear_scratch(const LinearShape& shape, int threads);
std::size_t quant_linear_tiles_scratch(const LinearShape& shape, int threads);

// x rounded . row n of a matrix; the meaning of the blocks.
float quant_dot_ref(const std::byte* rounded, const QuantProduct& product, const std::byte* matrix, std::int64_t n);
// Row [columns] of dtype, rounded group by group; without vector instructions.
void round_row_ref(const RoundedRow& layout, DType dtype, int bits, const std::byte* row, std::byte* out);

}  // namespace cajal::cpu
