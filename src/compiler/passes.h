#pragma once
// Graph to graph. Every pass returns a verified graph in normal form: leaves first, in their old order, then the rest. A
// pass changes no bit of any result: it only changes how many kernels, and which, compute it.
#include <functional>
#include <span>
#include <string_view>

#include "graph/graph.h"

namespace cajal {

// Linears of the same input become one with the weights below each other, and slices of its result: q, k, v; gate, up.
Graph fuse_projections(const Graph& graph);

// The regions that fuse_regions can make.
inline constexpr std::string_view kAddRmsNorm = "add_rms_norm";
inline constexpr std::string_view kSiluMulHalves = "silu_mul_halves";
inline constexpr std::string_view kLinearSiluMulHalves = "linear_silu_mul_halves";  // with the product that makes both
inline constexpr std::string_view kQkNormRopeKvWrite = "qk_norm_rope_kv_write";

// Makes regions of the given kinds wherever their pattern stands.
Graph fuse_regions(const Graph& graph, std::span<const std::string_view> kinds);

// Replaces regions that `has_kernel` does not know by their bodies.
Graph inline_regions(const Graph& graph, const std::function<bool(std::string_view kind)>& has_kernel);

// Drops nodes, parameters and states that no output and no write to a state depends on: what a later step finds in a state
// is a result of this one. Inputs stay: they are the graph's interface.
Graph eliminate_dead_code(const Graph& graph);

// Makes the sums of linears and experts with at least so many outputs in one part. Unlike all other passes it changes bits,
// those of a target on which parts cost more than they give: there, they depend on the tensor-parallel degree.
Graph merge_sum_parts(const Graph& graph, std::int64_t least_outputs);

// What a backend wants stored how.
struct StoragePolicy {
  std::function<Storage(const TensorType& weight)>
      linear_weight;  // parameters that only linears, experts and embeddings read
  std::function<Storage(const TensorType&cache)> k_cache, v_cache;
};
Graph assign_storage(const Graph& graph, const StoragePolicy& policy);

}  // namespace cajal
