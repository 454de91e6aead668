#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/kernels/activation.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/moe.h"
#include "backends/cpu/kernels/vec_avx2.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

constexpr const char* kClass = "softmax f32, ascending sums";
constexpr std::int64_t kMaxExperts = 1024;  // a row of probabilities lies on the stack

// values[i] = exp(values[i] - largest)
using ExpAll = void (*)(float* values, std::int64_t n, float largest);

void exp_all_ref(float* values, std::int64_t n, float largest) {
  for (std::int64_t i = 0; i < n; ++i) values[i] = exp_f32(values[i] - largest);
}

void probabilities(const RouterArgs& a, std::int64_t row, ExpAll exp_all, float* p) {
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < a.num_experts; ++i) {
    p[i] = load_element(a.logits, row * a.num_experts + i, a.dtype);
    if (p[i] > largest) largest = p[i];
  }
  exp_all(p, a.num_experts, largest);
  float sum = 0;
  for (std::int64_t i = 0; i < a.num_experts; ++i) sum += p[i];
  for (std::int64_t i = 0; i < a.num_experts; ++i) p[i] /= sum;
}

// Among equals the first wins. A NaN is larger than nothing, yet every id is one of an expert, and none comes twice.
void choose_experts(const RouterArgs& a, std::int64_t row, const float* p) {
  bool taken[kMaxExperts] = {};
  std::int32_t* ids = a.ids + row * a.top_k;
  for (std::int32_t choice = 0; choice < a.top_k; ++choice) {
    std::int64_t best = -1;
    for (std::int64_t i = 0; i < a.num_experts; ++i)
      if (!taken[i] && (best < 0 || p[i] > p[best])) best = i;
    taken[best] = true;
    ids[choice] = static_cast<std::int32_t>(best);
  }
}

void weigh(const RouterArgs& a, std::int64_t row, const float* p) {
  const std::int32_t* ids = a.ids + row * a.top_k;
  float sum = 0;
  for (std::int32_t choice = 0; choice < a.top_k; ++choice)
    if (ids[choice] >= 0) sum += p[ids[choice]];
  for (std::int32_t choice = 0; choice < a.top_k; ++choice) {
    float weight = ids[choice] >= 0 ? p[ids[choice]] : 0.0f;
    if (a.norm_topk_prob && ids[choice] >= 0) weight /= sum;
    store_element(a.weights, row * a.top_k + choice, a.dtype, weight);
  }
}

// What is over an expert's capacity becomes -1, sequence by sequence.
void drop(const RouterArgs& a) {
  std::int32_t count[kMaxExperts];
  for (std::int64_t begin = 0, end = 0; begin < a.rows; begin = end) {
    while (end < a.rows && a.seq_indices[end] == a.seq_indices[begin]) ++end;
    const auto rows = static_cast<double>(end - begin);
    const double share = std::ceil(rows * a.top_k * a.capacity_factor / static_cast<double>(a.num_experts));
    const auto capacity = static_cast<std::int32_t>(std::min(rows, share));
    std::fill_n(count, a.num_experts, 0);
    for (std::int64_t pair = begin * a.top_k; pair < end * a.top_k; ++pair)
      if (++count[a.ids[pair]] > capacity) a.ids[pair] = -1;
  }
}

void route(const RouterArgs& a, ThreadPool& pool, ExpAll exp_all) {
  CAJAL_CHECK(a.num_experts <= kMaxExperts && a.top_k <= a.num_experts, "a router of ", a.top_k, " out of ",
              a.num_experts);
  const bool drops = a.capacity_factor > 0;
  pool.parallel_for(a.rows, 8, [&](std::int64_t begin, std::int64_t end) {
    float p[kMaxExperts];
    for (std::int64_t row = begin; row < end; ++row) {
      probabilities(a, row, exp_all, p);
      choose_experts(a, row, p);
      if (!drops) weigh(a, row, p);
    }
  });
  if (!drops) return;
  drop(a);
  pool.parallel_for(a.rows, 8, [&](std::int64_t begin, std::int64_t end) {
    float p[kMaxExperts];
    for (std::int64_t row = begin; row < end; ++row) {
      probabilities(a, row, exp_all, p);
      weigh(a, row, p);
    }
  });
}

void router_ref(const RouterArgs& a, ThreadPool& pool) { route(a, pool, exp_all_ref); }

}  // namespace
}  // namespace cajal::cpu

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
namespace cajal::cpu {
namespace {

void exp_all_avx2(float* values, std::int64_t n, float largest) {
  const __m256 shift = _mm256_set1_ps(largest);
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(values + i, avx2::exp_f32(_mm256_sub_ps(_mm256_loadu_ps(values + i), shift)));
  for (; i < n; ++i) values[i] = exp_f32(values[i] - largest);
}

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
namespace {

void router_avx2(const RouterArgs& a, ThreadPool& pool) { route(a, pool, exp_all_avx2); }

bool anything(const RouterShape&) { return true; }

constexpr RouterKernel kKernels[] = {
    {"router_avx2", kClass, kAvx2, anything, router_avx2},
    {"router_ref", kClass, kBaseline, anything, router_ref},
};

}  // namespace

std::span<const RouterKernel> router_kernels() { return kKernels; }

}  // namespace cajal::cpu
