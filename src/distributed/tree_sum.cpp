#include "distributed/tree_sum.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace cajal {
namespace {

constexpr std::size_t kBlock =
    256;  // floats that are added at a time: the partial sums of all rounds stay in the L1 cache

// Rounds that pair neighbours and let an odd one wait come to this: the first 2^k parts, and what is left of them.
void add_parts(std::span<const float* const> parts, std::size_t begin, std::size_t n, float* sum) {
  if (parts.size() == 1) {
    std::memcpy(sum, parts[0] + begin, n * sizeof(float));
    return;
  }
  if (parts.size() == 2) {
    const float* a = parts[0] + begin;
    const float* b = parts[1] + begin;
    for (std::size_t i = 0; i < n; ++i) sum[i] = a[i] + b[i];
    return;
  }
  const std::size_t left = std::bit_floor(parts.size() - 1);
  float right[kBlock];
  add_parts(parts.first(left), begin, n, sum);
  add_parts(parts.subspan(left), begin, n, right);
  for (std::size_t i = 0; i < n; ++i) sum[i] += right[i];
}

}  // namespace

void tree_sum(std::span<const float* const> parts, std::span<float> out) {
  if (parts.size() == 2) {
    const float* a = parts[0];
    const float* b = parts[1];
    float* sum = out.data();
#pragma GCC ivdep  // what overlaps is the same element
    for (std::size_t i = 0; i < out.size(); ++i) sum[i] = a[i] + b[i];
    return;
  }
  float sum[kBlock];
  for (std::size_t begin = 0; begin < out.size(); begin += kBlock) {
    const std::size_t n = std::min(kBlock, out.size() - begin);
    add_parts(parts, begin, n, sum);
    std::memcpy(out.data() + begin, sum, n * sizeof(float));
  }
}

}  // namespace cajal
