#pragma once
// Linear over lossless weights: what linear.cpp lists. The class and the bits of bf16 weights that are merely packed.
#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/kernels/linear_blocks.h"

namespace cajal::cpu {

bool is_lossless(const LinearShape& shape);

// Many rows: a few tiles are unpacked, and stay in a cache while `packed` multiplies them with all rows of a chunk.
void run_lossless_tiles(const BlockTable& lossless, const BlockTable& packed, const LinearArgs& args, ThreadPool& pool);
std::size_t lossless_tiles_scratch(const LinearShape& shape, int threads);

// All of the matrix unpacked, for the reference.
std::size_t lossless_plain_bytes(const LinearShape& shape, int threads);
LinearArgs lossless_plain(const LinearArgs& args);

MatrixProduct linear_product(const LinearArgs& args);

}  // namespace cajal::cpu
