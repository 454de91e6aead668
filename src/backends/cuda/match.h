#pragma once
// What those share who look for a chain of nodes in a graph.
#include <cstdint>

#include "base/checked.h"

namespace cajal::cuda {

// Thrown by what does not match, and caught where matching began.
struct NoMatch {};
inline void expect(bool matches) {
  if (!matches) throw NoMatch{};
}

inline std::int32_t narrow(std::int64_t n) { return checked_cast<std::int32_t>(n, "a size on the device"); }

}  // namespace cajal::cuda
