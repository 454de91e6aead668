#pragma once
// The kernels of elementwise_isa.h on the vectors V of one instruction set. Included *inside* its target region and its
// namespace, which has V, behind these headers:
//   "backends/cpu/kernels/cache_rows.h" "backends/cpu/kernels/elementwise_isa.h" "base/thread_pool.h"
//   and, in the region, "backends/cpu/kernels/elementwise_rows.h"

namespace {

template <class T>
void rms_norm_rows(const RmsNormArgs& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin * a.columns; i < end * a.columns; i += a.columns)
    rows::norm_row<V, T>(as<T>(a.x) + i, as<T>(a.weight), as<T>(a.y) + i, a.columns, a.epsilon);
}

template <class T>
void add_rms_norm_rows(const AddRmsNormArgs& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin * a.columns; i < end * a.columns; i += a.columns) {
    rows::add_row<V, T>(as<T>(a.a) + i, as<T>(a.b) + i, as<T>(a.sum) + i, a.columns);
    rows::norm_row<V, T>(as<T>(a.sum) + i, as<T>(a.weight), as<T>(a.y) + i, a.columns, a.epsilon);
  }
}

template <class T>
void silu_mul_rows(const SiluMulArgs& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row)
    rows::silu_mul_row<V, T>(as<T>(a.gate) + row * a.input_stride, as<T>(a.up) + row * a.input_stride,
                             as<T>(a.y) + row * a.columns, a.columns);
}

template <class T>
void rope_rows(const RopeArgs& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin * a.num_heads; i < end * a.num_heads; ++i)
    rows::rotate_row<V, T>(as<T>(a.x) + i * a.columns, as<T>(a.table) + i / a.num_heads * a.columns,
                           as<T>(a.y) + i * a.columns, a.columns);
}

}  // namespace

void rms_norm(const RmsNormArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, row_grain(a.columns), [&a](std::int64_t begin, std::int64_t end) {
    a.dtype == DType::bf16 ? rms_norm_rows<Bf16>(a, begin, end) : rms_norm_rows<F32>(a, begin, end);
  });
}

void add(const AddArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows * a.columns, row_grain(1), [&a](std::int64_t begin, std::int64_t end) {
    a.dtype == DType::bf16
        ? rows::add_row<V, Bf16>(as<Bf16>(a.a) + begin, as<Bf16>(a.b) + begin, as<Bf16>(a.y) + begin, end - begin)
        : rows::add_row<V, F32>(as<F32>(a.a) + begin, as<F32>(a.b) + begin, as<F32>(a.y) + begin, end - begin);
  });
}

void add_rms_norm(const AddRmsNormArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, row_grain(a.columns), [&a](std::int64_t begin, std::int64_t end) {
    a.dtype == DType::bf16 ? add_rms_norm_rows<Bf16>(a, begin, end) : add_rms_norm_rows<F32>(a, begin, end);
  });
}

void silu_mul(const SiluMulArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, row_grain(4 * a.columns), [&a](std::int64_t begin, std::int64_t end) {
    a.dtype == DType::bf16 ? silu_mul_rows<Bf16>(a, begin, end) : silu_mul_rows<F32>(a, begin, end);
  });
}

void rope(const RopeArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, row_grain(a.num_heads * a.columns), [&a](std::int64_t begin, std::int64_t end) {
    a.dtype == DType::bf16 ? rope_rows<Bf16>(a, begin, end) : rope_rows<F32>(a, begin, end);
  });
}

void qk_norm_rope_kv_write(const QkNormRopeKvWriteArgs& a, ThreadPool& pool) {
  hand_out_cache_rows(a, pool, [&a](const RowsOfHeads& part) {
    a.dtype == DType::bf16 ? rows::norm_rope_write<V, Bf16>(a, part) : rows::norm_rope_write<V, F32>(a, part);
  });
}
