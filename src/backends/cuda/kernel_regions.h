#pragma once
// The graph that kernels are chosen for.
#include "graph/graph.h"

namespace cajal::cuda {

// Regions that have no kernel give way to their bodies. Where wgmma makes gates and what they let through, for more rows
// than decode's kernels take, the product and the gating become one.
Graph with_kernel_regions(const Graph& prepared, int sm);

}  // namespace cajal::cuda
