// Region "qk_norm_rope_kv_write".
#include "backends/cpu/kernels/elementwise.h"
#include "backends/cpu/kernels/elementwise_isa.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/kv_int8.h"
#include "backends/cpu/kernels/kv_write_layout.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

bool whole_halves(const QkNormRopeKvWriteShape& s) {
  return is_activation(s.dtype) && s.head_dim > 0 && s.head_dim % 2 == 0 && s.head_dim <= kMaxHeadDim &&
         std::holds_alternative<Quantized>(s.k_storage) == std::holds_alternative<Quantized>(s.v_storage);
}

template <class T>
void region_row(const QkNormRopeKvWriteArgs& a, std::int64_t row) {
  using Raw = typename T::Raw;
  const std::int64_t dim = a.head_dim;
  const CacheLayout k_layout{a.num_kv_heads, dim, a.block_size, a.k_packed};
  const CacheLayout v_layout{a.num_kv_heads, dim, a.block_size, a.v_packed};
  const Raw* q_in = as<T>(a.qkv) + row * (a.num_heads + 2 * a.num_kv_heads) * dim;
  const Raw* k_in = q_in + a.num_heads * dim;
  const Raw* v_in = k_in + a.num_kv_heads * dim;
  const Raw* table = as<T>(a.table) + row * dim;
  std::array<Raw, kMaxHeadDim> normed;
  for (std::int64_t head = 0; head < a.num_heads; ++head) {
    rms_norm_row<T>(q_in + head * dim, as<T>(a.q_norm), normed.data(), dim, a.epsilon);
    rope_row<T>(normed.data(), table, as<T>(a.q) + (row * a.num_heads + head) * dim, dim);
  }
  const std::int64_t slot = a.slot_mapping[row];
  for (std::int64_t head = 0; head < a.num_kv_heads; ++head) {
    std::array<Raw, kMaxHeadDim> rotated;
    rms_norm_row<T>(k_in + head * dim, as<T>(a.k_norm), normed.data(), dim, a.epsilon);
    rope_row<T>(normed.data(), table, rotated.data(), dim);
    if (a.int8_cache) {
      std::array<std::int8_t, kMaxHeadDim> integers;
      const Int8CacheLayout k_int8{a.num_kv_heads, dim, a.block_size, a.k_packed};
      const Int8CacheLayout v_int8{a.num_kv_heads, dim, a.block_size, a.v_packed};
      const float k_scale = round_to_int8<T>(rotated.data(), dim, integers.data());
      write_int8_slot(k_int8, a.k_cache, slot, head, integers.data(), k_scale);
      const float v_scale = round_to_int8<T>(v_in + head * dim, dim, integers.data());
      write_int8_slot(v_int8, a.v_cache, slot, head, integers.data(), v_scale);
      continue;
    }
    write_slot(k_layout, as<T>(a.k_cache) + k_layout.slot(slot, head), rotated.data());
    write_slot(v_layout, as<T>(a.v_cache) + v_layout.slot(slot, head), v_in + head * dim);
  }
}

void qk_norm_rope_kv_write_ref(const QkNormRopeKvWriteArgs& a, ThreadPool& pool) {
  with_activation(a.dtype, [&](auto t) {
    const std::int64_t columns = (a.num_heads + 2 * a.num_kv_heads) * a.head_dim;
    pool.parallel_for(a.rows, row_grain(columns), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) region_row<decltype(t)>(a, row);
    });
  });
}

constexpr QkNormRopeKvWriteKernel kKernels[] = {
    {"qk_norm_rope_kv_write_avx512_bf16", "norm_rope", kAvx512Bf16, whole_halves, avx512_bf16::qk_norm_rope_kv_write},
    {"qk_norm_rope_kv_write_avx512", "norm_rope", kAvx512, whole_halves, avx512::qk_norm_rope_kv_write},
    {"qk_norm_rope_kv_write_avx2", "norm_rope", kAvx2, whole_halves, avx2::qk_norm_rope_kv_write},
    {"qk_norm_rope_kv_write_ref", "norm_rope", kBaseline, whole_halves, qk_norm_rope_kv_write_ref},
};

}  // namespace

std::span<const QkNormRopeKvWriteKernel> qk_norm_rope_kv_write_kernels() { return kKernels; }

}  // namespace cajal::cpu
