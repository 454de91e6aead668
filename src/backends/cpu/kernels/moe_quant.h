#pragma once
// MoeExperts by expert over quantised weights, with the blocks of quant_blocks.h and, for experts of many rows, the tiles of quant_tiles.h.
#include "backends/cpu/kernels/moe.h"
#include "backends/cpu/kernels/quant_tiles.h"

namespace cajal::cpu {

void run_quant_moe(const QuantBlockTable& table, std::uint32_t isa, const MoeArgs& args, ThreadPool& pool);
void run_quant_moe(const QuantTiles& tiles, std::uint32_t isa, const MoeArgs& args, ThreadPool& pool);
void run_quant_moe_ref(const MoeArgs& args, ThreadPool& pool);
std::size_t quant_moe_scratch(const MoeShape& shape, int threads);
std::size_t quant_moe_tiles_scratch(const MoeShape& shape, int threads);

}  // namespace cajal::cpu
