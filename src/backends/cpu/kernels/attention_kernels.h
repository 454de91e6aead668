#pragma once
// The attention kernels behind the list, and the parts that the flash kernels share.
#include "backends/cpu/kernels/attention.h"

namespace cajal::cpu {

// In the two orders of attention_order.h.
void attention_reference(const AttentionArgs& a, ThreadPool& pool);
void attention_by_chunks_reference(const AttentionArgs& a, ThreadPool& pool);

// Consecutive positions of one sequence in consecutive rows, with the q heads of one kv head: `vectors` = rows * group
// vectors of q that meet the same keys. Vector i is head first_head + i % group of row first_row + i / group.
struct FlashTile {
  std::int64_t first_row, rows;
  std::int64_t kv_head, first_head, group;
  std::int64_t first_position;
  std::int64_t vectors() const { return rows * group; }
};

// Running maximum, sum and weighted values of the vectors of a tile. l = 0 marks a vector that has seen nothing.
struct FlashState {
  float *m, *l;
  float* o;             // [vectors, stride]
  std::int64_t stride;  // head_dim, rounded up to whole vectors

  static std::int64_t stride_of(std::int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
  static std::int64_t floats(std::int64_t vectors, std::int64_t head_dim) {
    return (2 * vectors + 15) / 16 * 16 + vectors * stride_of(head_dim);
  }
  static FlashState at(float* memory, std::int64_t vectors, std::int64_t head_dim) {
    return {memory, memory + vectors, memory + (2 * vectors + 15) / 16 * 16, stride_of(head_dim)};
  }
};

// What an instruction set contributes.
struct FlashParts {
  // Sets `state` to what the tile's vectors see of chunk number `chunk`. `memory`: a thread's own, chunk_bytes of it.
  void (*chunk)(const AttentionArgs& a, const FlashTile& tile, std::int64_t chunk, const FlashState& state,
                std::byte* memory) = nullptr;
  void (*merge)(const FlashState& into, const FlashState& from, std::int64_t vectors) = nullptr;
  void (*finish)(const AttentionArgs& a, const FlashTile& tile, const FlashState& state) = nullptr;
  std::int64_t tile_vectors =
      64;  // at most, of whole rows: their state stays in the L2 cache, and a key is read once for all of them
  std::int64_t (*chunk_bytes)(std::int64_t head_dim) = nullptr;  // null: none
};

void flash_attention(const AttentionArgs& a, ThreadPool& pool, const FlashParts& parts);
std::size_t flash_scratch_bytes(const FlashParts& parts, const AttentionShape& shape, int threads);
// Of parts with no wishes.
std::size_t flash_scratch_bytes(const AttentionShape& shape, int threads);

// K in tiles of a block's 64 positions (in pairs of k for bf16), V plain: what the flash kernels read.
Packed flash_k_storage(DType dtype);
bool flash_accepts(const AttentionShape& shape);

constexpr std::int64_t kMaxInt8Vectors = 64;  // of a tile that meets a cache in 8 bits

namespace avx2 {
void attention_bf16(const AttentionArgs& a, ThreadPool& pool);
void attention_f32(const AttentionArgs& a, ThreadPool& pool);
void attention_int8(const AttentionArgs& a, ThreadPool& pool);
}  // namespace avx2
namespace avx512 {
void attention_bf16(const AttentionArgs& a, ThreadPool& pool);
void attention_f32(const AttentionArgs& a, ThreadPool& pool);
}  // namespace avx512
namespace avx512_bf16 {
void attention_bf16(const AttentionArgs& a, ThreadPool& pool);
}
namespace avx512_vnni {
void attention_int8(const AttentionArgs& a, ThreadPool& pool);
}
// The second order. Without the instructions, tiles are multiplied number by number.
namespace amx {
void attention_bf16(const AttentionArgs& a, ThreadPool& pool);
std::size_t attention_scratch_bytes(const AttentionShape& shape, int threads);
}  // namespace amx
namespace portable_tiles {
void attention_bf16(const AttentionArgs& a, ThreadPool& pool);
std::size_t attention_scratch_bytes(const AttentionShape& shape, int threads);
}  // namespace portable_tiles

}  // namespace cajal::cpu
