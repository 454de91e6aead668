// ops::KvWrite.
#include "backends/cpu/kernels/attention.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/kv_int8.h"
#include "backends/cpu/kernels/kv_write_layout.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

bool in_8_bits(const KvWriteShape& s) {
  return std::holds_alternative<Quantized>(s.storage) && is_activation(s.dtype) && s.head_dim <= kMaxHeadDim;
}
bool copies(const KvWriteShape& s) {
  return !std::holds_alternative<Quantized>(s.storage) && (size_of(s.dtype) == 2 || size_of(s.dtype) == 4);
}

// Head by head, so that the rows of a packed tile meet its cache lines while those are near.
template <class Raw>
void write_heads(const KvWriteArgs& a, ThreadPool& pool) {
  const CacheLayout layout{a.num_kv_heads, a.head_dim, a.block_size, a.packed};
  const std::int64_t columns = a.num_kv_heads * a.head_dim;
  auto* cache = reinterpret_cast<Raw*>(a.cache);
  const auto* x = reinterpret_cast<const Raw*>(a.x);
  pool.parallel_for(a.rows, row_grain(columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t head = 0; head < a.num_kv_heads; ++head)
      for (std::int64_t row = begin; row < end; ++row)
        write_slot(layout, cache + layout.slot(a.slot_mapping[row], head), x + row * columns + head * a.head_dim);
  });
}

void kv_write_copy(const KvWriteArgs& a, ThreadPool& pool) {
  if (size_of(a.dtype) == 2) return write_heads<std::uint16_t>(a, pool);
  write_heads<std::uint32_t>(a, pool);
}

// Element by element, at the place that the storage's definition gives.
template <class Raw>
void write_elements(const KvWriteArgs& a) {
  const CacheLayout layout{a.num_kv_heads, a.head_dim, a.block_size, a.packed};
  for (std::int64_t row = 0; row < a.rows; ++row)
    for (std::int64_t head = 0; head < a.num_kv_heads; ++head) {
      const std::int64_t slot = a.slot_mapping[row];
      auto* matrix = reinterpret_cast<Raw*>(a.cache) + layout.matrix(slot / a.block_size, head);
      const auto* x = reinterpret_cast<const Raw*>(a.x) + (row * a.num_kv_heads + head) * a.head_dim;
      for (std::int64_t k = 0; k < a.head_dim; ++k)
        matrix[packed_index(a.packed, layout.padded_dim(), slot % a.block_size, k)] = x[k];
    }
}

void kv_write_ref(const KvWriteArgs& a, ThreadPool&) {
  if (size_of(a.dtype) == 2) return write_elements<std::uint16_t>(a);
  write_elements<std::uint32_t>(a);
}

// Regions write nearly all of a cache; what is left is not worth vectors.
void kv_write_int8(const KvWriteArgs& a, ThreadPool& pool) {
  const Int8CacheLayout layout{a.num_kv_heads, a.head_dim, a.block_size, a.packed};
  with_activation(a.dtype, [&](auto t) {
    using T = decltype(t);
    pool.parallel_for(a.rows, row_grain(a.num_kv_heads * a.head_dim), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin * a.num_kv_heads; i < end * a.num_kv_heads; ++i) {
        std::array<std::int8_t, kMaxHeadDim> integers;
        const float scale = round_to_int8<T>(as<T>(a.x) + i * a.head_dim, a.head_dim, integers.data());
        write_int8_slot(layout, a.cache, a.slot_mapping[i / a.num_kv_heads], i % a.num_kv_heads, integers.data(),
                        scale);
      }
    });
  });
}

constexpr KvWriteKernel kKernels[] = {
    {"kv_write_copy", "copy", kBaseline, copies, kv_write_copy},
    {"kv_write_int8_ref", "8 bits by vectors", kBaseline, in_8_bits, kv_write_int8},
    {"kv_write_ref", "copy", kBaseline, copies, kv_write_ref},
};

}  // namespace

std::span<const KvWriteKernel> kv_write_kernels() { return kKernels; }

}  // namespace cajal::cpu
