// ops::RmsNorm, and the region that adds before it.
#include "backends/cpu/kernels/elementwise.h"
#include "backends/cpu/kernels/elementwise_isa.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

bool any_activation(const RowShape& s) { return is_activation(s.dtype) && s.columns > 0; }

void rms_norm_ref(const RmsNormArgs& a, ThreadPool& pool) {
  with_activation(a.dtype, [&](auto t) {
    using T = decltype(t);
    pool.parallel_for(a.rows, row_grain(a.columns), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row)
        rms_norm_row<T>(as<T>(a.x) + row * a.columns, as<T>(a.weight), as<T>(a.y) + row * a.columns, a.columns,
                        a.epsilon);
    });
  });
}

void add_rms_norm_ref(const AddRmsNormArgs& a, ThreadPool& pool) {
  with_activation(a.dtype, [&](auto t) {
    using T = decltype(t);
    pool.parallel_for(a.rows, row_grain(a.columns), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const auto* x = as<T>(a.a) + row * a.columns;
        const auto* y = as<T>(a.b) + row * a.columns;
        auto* sum = as<T>(a.sum) + row * a.columns;
        for (std::int64_t i = 0; i < a.columns; ++i) sum[i] = T::store(T::load(x[i]) + T::load(y[i]));
        rms_norm_row<T>(sum, as<T>(a.weight), as<T>(a.y) + row * a.columns, a.columns, a.epsilon);
      }
    });
  });
}

constexpr RmsNormKernel kRmsNorm[] = {
    {"rms_norm_avx512_bf16", "rms_norm", kAvx512Bf16, any_activation, avx512_bf16::rms_norm},
    {"rms_norm_avx512", "rms_norm", kAvx512, any_activation, avx512::rms_norm},
    {"rms_norm_avx2", "rms_norm", kAvx2, any_activation, avx2::rms_norm},
    {"rms_norm_ref", "rms_norm", kBaseline, any_activation, rms_norm_ref},
};
constexpr AddRmsNormKernel kAddRmsNorm[] = {
    {"add_rms_norm_avx512_bf16", "rms_norm", kAvx512Bf16, any_activation, avx512_bf16::add_rms_norm},
    {"add_rms_norm_avx512", "rms_norm", kAvx512, any_activation, avx512::add_rms_norm},
    {"add_rms_norm_avx2", "rms_norm", kAvx2, any_activation, avx2::add_rms_norm},
    {"add_rms_norm_ref", "rms_norm", kBaseline, any_activation, add_rms_norm_ref},
};

}  // namespace

std::span<const RmsNormKernel> rms_norm_kernels() { return kRmsNorm; }
std::span<const AddRmsNormKernel> add_rms_norm_kernels() { return kAddRmsNorm; }

}  // namespace cajal::cpu
