#pragma once
// A kernel for a region does what its kind promises, and never looks at the body. So whoever reads a graph from a file
// must know that the two say the same.
#include <string_view>

#include "graph/graph.h"

namespace cajal {

// Error(data_loss) that begins with `what` unless every region is one that fuse_regions makes of its body where it stands.
void check_regions(const Graph& graph, std::string_view what);

}  // namespace cajal
