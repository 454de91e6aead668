#pragma once
// MoeExperts by expert: the rows that chose an expert are brought together and multiplied as one matrix, with the blocks of
// Linear. Experts that nobody chose are not touched.
#include "backends/cpu/kernels/linear_blocks.h"
#include "backends/cpu/kernels/moe.h"

namespace cajal::cpu {

// `isa`: what the kernel may use beside the blocks.
void run_grouped_moe(const BlockTable& table, std::uint32_t isa, const MoeArgs& args, ThreadPool& pool);

// With lossless weights, which are unpacked for the experts of many rows.
std::size_t lossless_moe_scratch(const MoeShape& shape, int threads);

}  // namespace cajal::cpu
