#include "backends/cuda/frequencies.h"

#include <algorithm>
#include <cmath>

#include "tensor/pytorch_pow.h"

namespace cajal::cuda {

void RowFrequencies::fill(std::span<const std::int32_t> lengths, std::span<float> into) {
  CAJAL_CHECK(into.size() >= lengths.size() * columns());
  for (std::size_t row = 0; row < lengths.size(); ++row) {
    const auto from = of(lengths[row]);
    std::copy(from.begin(), from.end(), into.begin() + static_cast<std::ptrdiff_t>(row * columns()));
  }
}

std::span<const float> RowFrequencies::of(std::int32_t length) {
  if (length <= op_.original_length) return op_.inv_freq;
  if (!op_.long_inv_freq.empty()) return op_.long_inv_freq;
  if (length != dynamic_length_) compute_dynamic(length);
  return dynamic_;
}

// As Transformers' _compute_dynamic_ntk_parameters does it with a length that is a tensor.
void RowFrequencies::compute_dynamic(std::int32_t length) {
  const std::size_t half = columns();
  const double dim = 2.0 * static_cast<double>(half);
  float growth = op_.dynamic_factor * static_cast<float>(length);
  growth = growth / static_cast<float>(op_.original_length) - op_.dynamic_offset;
  growth = static_cast<float>(std::pow(static_cast<double>(growth), dim / (dim - 2.0)));
  std::vector<float> exponents(half);
  for (std::size_t i = 0; i < half; ++i) exponents[i] = static_cast<float>(2 * i) / static_cast<float>(2 * half);
  dynamic_.resize(half);
  pytorch_pow(op_.dynamic_base * growth, exponents, dynamic_);
  for (float& f : dynamic_) f = 1.0f / f;
  dynamic_length_ = length;
}

}  // namespace cajal::cuda
