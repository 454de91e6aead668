#pragma once
// RoPE frequencies that depend on the length of a row's request, computed on the host: the device gets a row of them for
// each row of the step.
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "graph/op.h"

namespace cajal::cuda {

class RowFrequencies {
 public:
  explicit RowFrequencies(const ops::RotaryTable& op) : op_(op) {}

  std::size_t columns() const { return op_.inv_freq.size(); }
  // into[lengths.size(), columns()]
  void fill(std::span<const std::int32_t> lengths, std::span<float> into);

 private:
  std::span<const float> of(std::int32_t length);
  void compute_dynamic(std::int32_t length);

  const ops::RotaryTable& op_;
  std::int32_t dynamic_length_ = -1;
  std::vector<float> dynamic_;
};

}  // namespace cajal::cuda
