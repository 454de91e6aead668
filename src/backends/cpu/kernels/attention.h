#pragma once
// ops::PagedAttention and ops::KvWrite.
#include "backends/cpu/kernels/kernel.h"

namespace cajal::cpu {

struct AttentionShape {
  DType dtype;
  Storage k_storage, v_storage;  // of a cache [blocks, kv_heads, block_size, head_dim]
  std::int64_t rows;             // at most
  std::int64_t num_heads, num_kv_heads, head_dim, block_size;
  std::int64_t max_blocks_per_seq;
  std::int64_t sliding_window;
};
struct AttentionArgs {
  const std::byte* q;  // [rows, num_heads, head_dim]
  const std::byte* k_cache;
  const std::byte* v_cache;
  const std::int32_t* block_tables;  // [seqs, max_blocks_per_seq]
  const std::int32_t* seq_indices;   // [rows]
  const std::int32_t* positions;     // [rows]
  std::byte* y;                      // [rows, num_heads, head_dim]
  std::byte* scratch;
  std::int64_t rows, num_heads, num_kv_heads, head_dim, block_size, max_blocks_per_seq, sliding_window;
  float scale;
  DType dtype;
  Packed k_packed, v_packed;  // {1,1} if plain
  bool int8_cache = false;    // kv_int8.h: k_packed and v_packed are the tiles of its integers
};
using AttentionKernel = Kernel<AttentionShape, AttentionArgs>;
std::span<const AttentionKernel> attention_kernels();

// The storage that the fastest attention kernels of this machine read for a cache of this type.
struct KvStorage {
  Storage k, v;
};
KvStorage kv_cache_storage(DType dtype, std::int64_t head_dim, std::uint32_t isa);
// The same for a cache that is to be kept in 8 bits; Error(unsupported) for other bits, groups or scales than kv_int8.h has.
KvStorage quantized_kv_cache_storage(const Quantized& wanted, std::int64_t head_dim, std::uint32_t isa);
// The tile of a cache's elements, or of its integers.
Packed cache_tile(const Storage& storage);

struct KvWriteShape {
  DType dtype;
  Storage storage;
  std::int64_t head_dim, block_size;
};
struct KvWriteArgs {
  std::byte* cache;
  const std::byte* x;                // [rows, num_kv_heads, head_dim]
  const std::int32_t* slot_mapping;  // [rows]
  std::int64_t rows, num_kv_heads, head_dim, block_size;
  DType dtype;
  Packed packed;
  bool int8_cache = false;
};
using KvWriteKernel = Kernel<KvWriteShape, KvWriteArgs>;
std::span<const KvWriteKernel> kv_write_kernels();

}  // namespace cajal::cpu
