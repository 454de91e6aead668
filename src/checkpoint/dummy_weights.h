#pragma once
// Weights for models without any: numbers that depend on the seed and on where an element would lie in the checkpoint, and
// on nothing else. Sharding, packing, fusing and threads do not change the model.
#include <cstdint>
#include <vector>

#include "checkpoint/loader.h"
#include "tensor/dummy_numbers.h"

namespace cajal {

// Fills `destination` (request.type.bytes()). Element i of checkpoint tensor n is uniform with a hash of (seed, n, i):
// matrices with mean 0 and standard deviation 0.02, as freshly initialised models have; vectors named …bias the same; all
// other vectors (norms) within 0.05 of 1. Values are rounded once, to the type's dtype: bf16, f16 or f32.
void fill_dummy(const WeightRequest& request, std::uint64_t seed, const WeightPlace& destination, Staging& staging);
// The same numbers as a recipe, for those who make them elsewhere. Rows that it does not name are padding, and zero.
std::vector<DummyRows> dummy_rows(const WeightRequest& request, std::uint64_t seed);

// load_all without a checkpoint.
std::uint64_t fill_all_dummy(const Graph& graph, TensorParallelRank rank, std::uint64_t seed, WeightSink& sink,
                             Staging& staging);

}  // namespace cajal
