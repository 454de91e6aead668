// ops::RotaryTable and ops::Rope.
#include <cmath>

#include "backends/cpu/kernels/elementwise.h"
#include "backends/cpu/kernels/elementwise_isa.h"
#include "backends/cpu/kernels/elementwise_scalar.h"
#include "base/thread_pool.h"
#include "tensor/pytorch_pow.h"

namespace cajal::cpu {
namespace {

bool whole_halves(const RowShape& s) {
  return is_activation(s.dtype) && s.columns > 0 && s.columns % 2 == 0 && s.columns <= kMaxHeadDim;
}

// The frequencies of the row's request. Rows of one request follow each other, so the last ones are kept.
class Frequencies {
 public:
  Frequencies(const ops::RotaryTable& op, std::int64_t head_dim) : op_(op), head_dim_(head_dim) {
    CAJAL_CHECK(head_dim <= kMaxHeadDim && static_cast<std::int64_t>(op.inv_freq.size()) == head_dim / 2);
  }

  const float* of(std::int64_t length) {
    if (op_.original_length == 0 || length <= op_.original_length) return op_.inv_freq.data();
    if (!op_.long_inv_freq.empty()) return op_.long_inv_freq.data();
    if (length != dynamic_length_) compute_dynamic(length);
    return dynamic_.data();
  }

 private:
  // As Transformers' _compute_dynamic_ntk_parameters does it with a length that is a tensor.
  void compute_dynamic(std::int64_t length) {
    const auto half = static_cast<std::size_t>(head_dim_ / 2);
    const double dim = static_cast<double>(head_dim_);
    float growth = op_.dynamic_factor * static_cast<float>(length);
    growth = growth / static_cast<float>(op_.original_length) - op_.dynamic_offset;
    growth = static_cast<float>(std::pow(static_cast<double>(growth), dim / (dim - 2.0)));
    std::array<float, kMaxHeadDim / 2> exponents;
    for (std::size_t i = 0; i < half; ++i) exponents[i] = static_cast<float>(2 * i) / static_cast<float>(head_dim_);
    pytorch_pow(op_.dynamic_base * growth, std::span(exponents).first(half), dynamic_);
    for (std::size_t i = 0; i < half; ++i) dynamic_[i] = 1.0f / dynamic_[i];
    dynamic_length_ = length;
  }

  const ops::RotaryTable& op_;
  std::int64_t head_dim_;
  std::int64_t dynamic_length_ = -1;
  std::array<float, kMaxHeadDim / 2> dynamic_;
};

// Runs once a step for T x D/2 angles; libm's cosine and sine are part of what the op means here.
void rotary_table_libm(const RotaryTableArgs& a, ThreadPool& pool) {
  with_activation(a.dtype, [&](auto t) {
    using T = decltype(t);
    const std::int64_t half = a.columns / 2;
    pool.parallel_for(a.rows, 16, [&](std::int64_t begin, std::int64_t end) {
      Frequencies frequencies(*a.op, a.columns);
      for (std::int64_t row = begin; row < end; ++row) {
        const float* inv_freq = frequencies.of(a.rope_lengths ? a.rope_lengths[row] : 0);
        const auto position = static_cast<float>(a.positions[row]);
        auto* y = as<T>(a.y) + row * a.columns;
        for (std::int64_t i = 0; i < half; ++i) {
          const float angle = inv_freq[i] * position;
          y[i] = T::store(std::cos(angle) * a.op->attention_scaling);
          y[half + i] = T::store(std::sin(angle) * a.op->attention_scaling);
        }
      }
    });
  });
}

void rope_ref(const RopeArgs& a, ThreadPool& pool) {
  with_activation(a.dtype, [&](auto t) {
    using T = decltype(t);
    pool.parallel_for(a.rows, row_grain(a.num_heads * a.columns), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin * a.num_heads; i < end * a.num_heads; ++i)
        rope_row<T>(as<T>(a.x) + i * a.columns, as<T>(a.table) + i / a.num_heads * a.columns,
                    as<T>(a.y) + i * a.columns, a.columns);
    });
  });
}

constexpr RotaryTableKernel kRotaryTable[] = {
    {"rotary_table_libm", "rotary_table", kBaseline, whole_halves, rotary_table_libm},
};
constexpr RopeKernel kRope[] = {
    {"rope_avx512_bf16", "rope", kAvx512Bf16, whole_halves, avx512_bf16::rope},
    {"rope_avx512", "rope", kAvx512, whole_halves, avx512::rope},
    {"rope_avx2", "rope", kAvx2, whole_halves, avx2::rope},
    {"rope_ref", "rope", kBaseline, whole_halves, rope_ref},
};

}  // namespace

std::span<const RotaryTableKernel> rotary_table_kernels() { return kRotaryTable; }
std::span<const RopeKernel> rope_kernels() { return kRope; }

}  // namespace cajal::cpu
