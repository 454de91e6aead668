#pragma once
// What a model's graphs are built from, worked out once from its files: loading, exporting and inspecting agree on it.
#include <functional>
#include <string_view>

#include "compiler/quantize_weights.h"
#include "models/qwen3.h"

namespace cajal {

class Checkpoint;
struct ModelOptions;

struct ModelRecipe {
  Qwen3Config config;
  Qwen3GraphOptions
      graph;  // of any bucket: dtype, names of the checkpoint's tensors, outputs that weights are there for
  QuantizationRecipe quantization = {};
};

// `checkpoint` is null where weights are dummies. Reads config.json of options.folder.
ModelRecipe make_recipe(const ModelOptions& options, const Checkpoint* checkpoint);

// A capacity of experts; what drops nothing leaves the recipe without one, and what drops is warned of. Error(invalid_argument)
// where the model has no experts.
void set_capacity_factor(ModelRecipe& recipe, double factor);

// Error(unsupported) for what a target has no kernels for.
void check_quantization(const QuantizationRecipe& recipe, std::string_view target);
void check_kv_cache_dtype(KvCacheDType dtype, std::string_view target);

// What ranks must not cut apart, so that weights are rounded as on one rank.
ColumnGroups column_groups(const QuantizationRecipe& recipe);

// The graph of a bucket, made ready by `prepare`: a backend's or a target's. Not of outputs that the recipe has no weights
// for. How a weight is stored depends on all of its uses: an embedding that is the head too is not stored as one that is
// not. So every graph is prepared with what the weights are for, and loses what is not wanted afterwards.
Graph prepared_graph(const ModelRecipe& recipe, const Bucket& bucket, const Qwen3Outputs& outputs,
                     const std::function<Graph(const Graph&)>& prepare);
// Keeps the wanted of a graph's outputs `there`, and what they need.
Graph keep_outputs(Graph graph, const Qwen3Outputs& there, const Qwen3Outputs& wanted);

}  // namespace cajal
