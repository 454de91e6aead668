#pragma once
// Where the vectors of a KV cache lie.
#include <algorithm>
#include <cstring>

#include "tensor/tensor.h"

namespace cajal::cpu {

// A cache [blocks, kv_heads, block_size, head_dim] whose last two dimensions may be packed in tiles.
struct CacheLayout {
  std::int64_t num_kv_heads, head_dim, block_size;
  Packed packed;  // {1,1} if plain

  std::int64_t padded_dim() const { return (head_dim + packed.group - 1) / packed.group * packed.group; }
  std::int64_t padded_block() const { return (block_size + packed.rows - 1) / packed.rows * packed.rows; }
  // The first element of the matrix [block_size, head_dim] of a block and a head.
  std::int64_t matrix(std::int64_t block, std::int64_t kv_head) const {
    return (block * num_kv_heads + kv_head) * padded_block() * padded_dim();
  }
  // The first element of a slot's vector: `group` elements lie together, the next `group` follow group_step() further on.
  std::int64_t slot(std::int64_t index, std::int64_t kv_head) const {
    return matrix(index / block_size, kv_head) + packed_index(packed, padded_dim(), index % block_size, 0);
  }
  std::int64_t group_step() const { return std::int64_t{packed.rows} * packed.group; }
};

inline Packed packed_or_plain(const Storage& storage) {
  const Packed* packed = std::get_if<Packed>(&storage);
  return packed ? *packed : Packed{1, 1};
}

// `to` is the first element of the slot's vector, where slot() says.
template <class Raw>
void write_slot(const CacheLayout& layout, Raw* to, const Raw* x) {
  const std::int64_t group = layout.packed.group, step = layout.group_step();
  if (step == group) {
    std::memcpy(to, x, static_cast<std::size_t>(layout.head_dim) * sizeof(Raw));
    return;
  }
  std::int64_t k = 0;
  if (group == 2) {
    for (; k + 2 <= layout.head_dim; k += 2, to += step) std::memcpy(to, x + k, 2 * sizeof(Raw));
    if (k < layout.head_dim) *to = x[k];
    return;
  }
  for (; k < layout.head_dim; ++k) to[k / group * step + k % group] = x[k];
}

}  // namespace cajal::cpu
