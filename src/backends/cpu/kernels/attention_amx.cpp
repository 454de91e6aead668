// Attention by AMX's tiles.
#include <utility>

#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/elementwise_vec512_bf16.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AMX)
#include "backends/cpu/kernels/amx.h"
#include "backends/cpu/kernels/attention_chunk_tiles.h"

namespace cajal::cpu::amx {
namespace {

constexpr FlashParts kParts = flash::chunk_parts<HardwareTiles, avx512_bf16::V>();

}  // namespace

void attention_bf16(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kParts); }
std::size_t attention_scratch_bytes(const AttentionShape& shape, int threads) {
  return flash_scratch_bytes(kParts, shape, threads);
}

}  // namespace cajal::cpu::amx
CAJAL_TARGET_REGION_END
