#include "backends/cpu/kernels/moe_steps.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "backends/cpu/kernels/elementwise.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/vec_avx2.h"

namespace cajal::cpu {
namespace {

// What remains when the experts are done: y[0..n) = the sum over choices j of weights[j] * rows[j][0..n), each product
// rounded, f32 in between.
struct Combination {
  const std::byte* const* rows;
  const float* weights;
  std::int32_t choices;
  std::byte* y;
  std::int64_t n;
};

void combine_from(const Combination& c, DType dtype, std::int64_t first) {
  for (std::int64_t i = first; i < c.n; ++i) {
    float sum = 0;
    for (std::int32_t j = 0; j < c.choices; ++j)
      sum += round_to(dtype, c.weights[j] * load_element(c.rows[j], i, dtype));
    store_element(c.y, i, dtype, sum);
  }
}

}  // namespace
}  // namespace cajal::cpu

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
namespace cajal::cpu {
namespace {

void combine_bf16_avx2(const Combination& c) {
  std::int64_t i = 0;
  for (; i + 8 <= c.n; i += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (std::int32_t j = 0; j < c.choices; ++j) {
      const __m256 product = _mm256_mul_ps(_mm256_set1_ps(c.weights[j]), avx2::load_bf16(c.rows[j] + i * 2));
      sum = _mm256_add_ps(sum, avx2::round_to_bf16(product));
    }
    avx2::store_bf16(c.y + i * 2, sum);
  }
  combine_from(c, DType::bf16, i);
}

void combine_f32_avx2(const Combination& c) {
  std::int64_t i = 0;
  for (; i + 8 <= c.n; i += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (std::int32_t j = 0; j < c.choices; ++j) {
      const __m256 row = _mm256_loadu_ps(reinterpret_cast<const float*>(c.rows[j]) + i);
      sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_set1_ps(c.weights[j]), row));
    }
    _mm256_storeu_ps(reinterpret_cast<float*>(c.y) + i, sum);
  }
  combine_from(c, DType::f32, i);
}

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
namespace {

constexpr std::int32_t kMaxChoices = 64;

}  // namespace

MoeSteps::MoeSteps(const MoeArgs& args, const MoeScratch& at, std::uint32_t isa, ThreadPool& pool)
    : a_(args), at_(at), isa_(isa), pool_(pool) {
  CAJAL_CHECK(a_.top_k <= kMaxChoices, a_.top_k, " experts a row");
}

// Counting sort of the pairs by expert, in their order within an expert.
void MoeSteps::sort_pairs() {
  std::int32_t* begin = ints(at_.begin);
  std::fill_n(begin, a_.num_experts + 1, 0);
  for (std::int64_t pair = 0; pair < a_.rows * a_.top_k; ++pair)
    if (const std::int32_t e = a_.expert_of(pair); e >= 0) ++begin[e + 1];
  num_active_ = 0;
  for (std::int32_t e = 0; e < a_.num_experts; ++e) {
    if (begin[e + 1] > 0) ints(at_.active)[num_active_++] = e;
    begin[e + 1] += begin[e];
  }
  // Filling moves each expert's beginning to its end, which is the next one's beginning; undone afterwards.
  for (std::int64_t pair = 0; pair < a_.rows * a_.top_k; ++pair) {
    const std::int32_t e = a_.expert_of(pair);
    ints(at_.positions)[pair] = e >= 0 ? begin[e]++ : -1;
    if (e >= 0) ints(at_.pairs)[ints(at_.positions)[pair]] = static_cast<std::int32_t>(pair);
  }
  for (std::int64_t e = a_.num_experts; e > 0; --e) begin[e] = begin[e - 1];
  begin[0] = 0;
  num_pairs_ = begin[a_.num_experts];
}

void MoeSteps::activate() {
  const std::byte* gate = bytes(at_.gate_up);
  const auto& kernel = choose(silu_mul_kernels(), RowShape{a_.dtype, a_.intermediate_size}, isa_);
  kernel.run({.gate = gate,
              .up = gate + row_bytes(a_.intermediate_size),
              .y = bytes(at_.hidden),
              .rows = num_pairs(),
              .columns = a_.intermediate_size,
              .input_stride = 2 * a_.intermediate_size,
              .dtype = a_.dtype},
             pool_);
}

void MoeSteps::combine() {
  if (a_.partial) return scatter();
  const std::int64_t row = row_bytes(a_.hidden_size);
  pool_.parallel_for(a_.rows, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::byte* outs[kMaxChoices];
      float weights[kMaxChoices];
      std::int32_t choices = 0;
      for (std::int64_t pair = r * a_.top_k; pair < (r + 1) * a_.top_k; ++pair) {
        if (ints(at_.positions)[pair] < 0) continue;
        outs[choices] = bytes(at_.out) + ints(at_.positions)[pair] * row;
        weights[choices++] = load_element(a_.weights, pair, a_.dtype);
      }
      const Combination c{outs, weights, choices, a_.y + r * row, a_.hidden_size};
      if (!(isa_ & kAvx2))
        combine_from(c, a_.dtype, 0);
      else
        a_.dtype == DType::bf16 ? combine_bf16_avx2(c) : combine_f32_avx2(c);
    }
  });
}

void MoeSteps::scatter() {
  const auto row = a_.hidden_size * static_cast<std::int64_t>(sizeof(float));
  pool_.parallel_for(a_.rows * a_.top_k, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t pair = begin; pair < end; ++pair) {
      const std::int64_t position = ints(at_.positions)[pair];
      if (position < 0)
        std::memset(a_.y + pair * row, 0, static_cast<std::size_t>(row));
      else
        std::memcpy(a_.y + pair * row, bytes(at_.out) + position * row, static_cast<std::size_t>(row));
    }
  });
}

std::int32_t MoeSteps::active_of_unit(std::int64_t unit) const {
  const std::int32_t* units = ints(at_.units);
  return static_cast<std::int32_t>(std::upper_bound(units, units + num_active_, unit) - units - 1);
}

}  // namespace cajal::cpu
