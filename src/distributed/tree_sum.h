#pragma once
// The order in which ranks' numbers are added. A balanced tree over the order of ranks: ((x0 + x1) + (x2 + x3)) + …, an odd
// one out waiting for the next round. So the bits do not depend on who adds, nor on which piece of the data at a time.
#include <cstddef>
#include <span>

namespace cajal {

// out[n] = the tree's sum of parts[r][n]. `out` may be one of the parts.
void tree_sum(std::span<const float* const> parts, std::span<float> out);

}  // namespace cajal
