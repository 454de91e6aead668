// Attention by AMX's tiles.
#include <utility>

#include "backends/cpu/kernels/attention_blocks.h"
#include "backends/cpu/kernels/elementwise_vec512_bf16.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AMX)
#include "backends/cpu/kernels/amx.h"
#include "backends/cpu/kernels/attention_chunk_tiles.h"
#include "backends/cpu/kernels/attention_tile.h"

namespace cajal::cpu::amx {
namespace {

using avx512_bf16::V;
constexpr FlashParts kParts = {.chunk = flash::chunk_by_tiles<HardwareTiles, V>,
                               .merge = flash::merge<V>,
                               .finish = flash::finish<V, Bf16, true>,
                               .tile_vectors = 128,  // packing values is paid for by all
                               .chunk_bytes = flash::ChunkMemory::bytes};

}  // namespace

void attention_bf16(const AttentionArgs& a, ThreadPool& pool) { flash_attention(a, pool, kParts); }
std::size_t attention_scratch_bytes(const AttentionShape& shape, int threads) {
  return flash_scratch_bytes(kParts, shape, threads);
}

}  // namespace cajal::cpu::amx
CAJAL_TARGET_REGION_END
