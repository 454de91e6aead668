// ops::CombineExperts: what MoeExperts does behind its last product, for outputs whose sums came from several ranks.
#include <immintrin.h>

#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/moe.h"
#include "backends/cpu/kernels/vec_avx2.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

constexpr const char* kClass = "choices in their order, f32";

const float* output(const CombineArgs& a, std::int64_t pair) {
  return reinterpret_cast<const float*>(a.outputs) + pair * a.hidden_size;
}

void combine_row_from(const CombineArgs& a, std::int64_t row, std::int64_t first) {
  for (std::int64_t i = first; i < a.hidden_size; ++i) {
    float sum = 0;
    for (std::int64_t pair = row * a.top_k; pair < (row + 1) * a.top_k; ++pair)
      sum += round_to(a.dtype, load_element(a.weights, pair, a.dtype) * round_to(a.dtype, output(a, pair)[i]));
    store_element(a.y, row * a.hidden_size + i, a.dtype, sum);
  }
}

template <void (*combine_row)(const CombineArgs&, std::int64_t row)>
void combine(const CombineArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) combine_row(a, row);
  });
}

void combine_row_ref(const CombineArgs& a, std::int64_t row) { combine_row_from(a, row, 0); }

}  // namespace
}  // namespace cajal::cpu

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
namespace cajal::cpu {
namespace {

void combine_row_bf16_avx2(const CombineArgs& a, std::int64_t row) {
  std::int64_t i = 0;
  for (; i + 8 <= a.hidden_size; i += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (std::int64_t pair = row * a.top_k; pair < (row + 1) * a.top_k; ++pair) {
      const __m256 rounded = avx2::round_to_bf16(_mm256_loadu_ps(output(a, pair) + i));
      const __m256 weight = _mm256_set1_ps(load_element(a.weights, pair, DType::bf16));
      sum = _mm256_add_ps(sum, avx2::round_to_bf16(_mm256_mul_ps(weight, rounded)));
    }
    avx2::store_bf16(a.y + (row * a.hidden_size + i) * 2, sum);
  }
  combine_row_from(a, row, i);
}

void combine_row_f32_avx2(const CombineArgs& a, std::int64_t row) {
  std::int64_t i = 0;
  for (; i + 8 <= a.hidden_size; i += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (std::int64_t pair = row * a.top_k; pair < (row + 1) * a.top_k; ++pair) {
      const __m256 weight = _mm256_set1_ps(load_element(a.weights, pair, DType::f32));
      sum = _mm256_add_ps(sum, _mm256_mul_ps(weight, _mm256_loadu_ps(output(a, pair) + i)));
    }
    _mm256_storeu_ps(reinterpret_cast<float*>(a.y) + row * a.hidden_size + i, sum);
  }
  combine_row_from(a, row, i);
}

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
namespace {

template <DType dtype>
bool is(const CombineShape& s) {
  return s.dtype == dtype;
}
bool either(const CombineShape& s) { return s.dtype == DType::bf16 || s.dtype == DType::f32; }

constexpr CombineKernel kKernels[] = {
    {"combine_bf16_avx2", kClass, kAvx2, is<DType::bf16>, combine<combine_row_bf16_avx2>},
    {"combine_f32_avx2", kClass, kAvx2, is<DType::f32>, combine<combine_row_f32_avx2>},
    {"combine_ref", kClass, kBaseline, either, combine<combine_row_ref>},
};

}  // namespace

std::span<const CombineKernel> combine_kernels() { return kKernels; }

}  // namespace cajal::cpu
