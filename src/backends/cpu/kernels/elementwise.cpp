#include "backends/cpu/kernels/elementwise.h"

#include <cstring>

#include "backends/cpu/kernels/activation.h"
#include "backends/cpu/kernels/elementwise_isa.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

bool any_activation(const RowShape& s) { return is_activation(s.dtype); }
bool anything(const RowShape&) { return true; }

void add_ref(const AddArgs& a, ThreadPool& pool) {
  with_activation(a.dtype, [&](auto t) {
    using T = decltype(t);
    const auto *x = as<T>(a.a), *y = as<T>(a.b);
    auto* sum = as<T>(a.y);
    pool.parallel_for(a.rows * a.columns, row_grain(1), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) sum[i] = T::store(T::load(x[i]) + T::load(y[i]));
    });
  });
}

void silu_mul_ref(const SiluMulArgs& a, ThreadPool& pool) {
  with_activation(a.dtype, [&](auto t) {
    using T = decltype(t);
    pool.parallel_for(a.rows, row_grain(a.columns), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const auto* gate = as<T>(a.gate) + row * a.input_stride;
        const auto* up = as<T>(a.up) + row * a.input_stride;
        auto* y = as<T>(a.y) + row * a.columns;
        for (std::int64_t i = 0; i < a.columns; ++i)
          y[i] = T::store(T::round(silu_f32(T::load(gate[i]))) * T::load(up[i]));
      }
    });
  });
}

void sigmoid_mul_ref(const SigmoidMulArgs& a, ThreadPool& pool) {
  with_activation(a.dtype, [&](auto t) {
    using T = decltype(t);
    pool.parallel_for(a.rows, row_grain(a.columns), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const float factor = T::round(sigmoid_f32(T::load(as<T>(a.gate)[row])));
        const auto* x = as<T>(a.x) + row * a.columns;
        auto* y = as<T>(a.y) + row * a.columns;
        for (std::int64_t i = 0; i < a.columns; ++i) y[i] = T::store(factor * T::load(x[i]));
      }
    });
  });
}

// Copies carry any type; memcpy is as fast as memory, so these have no other version.
void slice_copy(const SliceArgs& a, ThreadPool& pool) {
  const auto element = static_cast<std::int64_t>(size_of(a.dtype));
  pool.parallel_for(a.rows, row_grain(a.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      std::memcpy(a.y + row * a.columns * element, a.x + (row * a.input_columns + a.begin) * element,
                  static_cast<std::size_t>(a.columns * element));
  });
}

void gather_rows_copy(const GatherRowsArgs& a, ThreadPool& pool) {
  const std::int64_t bytes = a.columns * static_cast<std::int64_t>(size_of(a.dtype));
  pool.parallel_for(a.rows, row_grain(a.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      std::memcpy(a.y + row * bytes, a.x + std::int64_t{a.indices[row]} * bytes, static_cast<std::size_t>(bytes));
  });
}

constexpr AddKernel kAdd[] = {
    {"add_avx512_bf16", "add", kAvx512Bf16, any_activation, avx512_bf16::add},
    {"add_avx512", "add", kAvx512, any_activation, avx512::add},
    {"add_avx2", "add", kAvx2, any_activation, avx2::add},
    {"add_ref", "add", kBaseline, any_activation, add_ref},
};
constexpr SiluMulKernel kSiluMul[] = {
    {"silu_mul_avx512_bf16", "silu_mul", kAvx512Bf16, any_activation, avx512_bf16::silu_mul},
    {"silu_mul_avx512", "silu_mul", kAvx512, any_activation, avx512::silu_mul},
    {"silu_mul_avx2", "silu_mul", kAvx2, any_activation, avx2::silu_mul},
    {"silu_mul_ref", "silu_mul", kBaseline, any_activation, silu_mul_ref},
};
constexpr SigmoidMulKernel kSigmoidMul[] = {
    {"sigmoid_mul_ref", "sigmoid_mul", kBaseline, any_activation, sigmoid_mul_ref},
};
constexpr SliceKernel kSlice[] = {{"slice_copy", "copy", kBaseline, anything, slice_copy}};
constexpr GatherRowsKernel kGatherRows[] = {{"gather_rows_copy", "copy", kBaseline, anything, gather_rows_copy}};

}  // namespace

std::span<const AddKernel> add_kernels() { return kAdd; }
std::span<const SiluMulKernel> silu_mul_kernels() { return kSiluMul; }
std::span<const SigmoidMulKernel> sigmoid_mul_kernels() { return kSigmoidMul; }
std::span<const SliceKernel> slice_kernels() { return kSlice; }
std::span<const GatherRowsKernel> gather_rows_kernels() { return kGatherRows; }

}  // namespace cajal::cpu
