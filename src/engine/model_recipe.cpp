#include "engine/model_recipe.h"

#include "backends/target.h"
#include "base/log.h"
#include "checkpoint/tied_embeddings.h"
#include "compiler/passes.h"
#include "engine/model.h"
#include "models/mlp.h"

namespace cajal {
namespace {

// A configuration that names no type leaves it to the weights, as Transformers' dtype="auto" does.
DType stored_dtype(const Qwen3Config& config, const Checkpoint* checkpoint) {
  if (config.has_dtype || !checkpoint) return config.dtype;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
    if (const auto found = checkpoint->find(name))
      if (const auto dtype = found->tensor->dtype->dtype;
          dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16)
        return *dtype;
  return config.dtype;
}

}  // namespace

void set_capacity_factor(ModelRecipe& recipe, double factor) {
  recipe.graph.capacity_factor.reset();
  if (effective_capacity_factor(recipe.config, factor) == 0) return;
  recipe.graph.capacity_factor = factor;
  log_warning("capacity_factor is ", factor,
              ": full experts drop tokens, so answers are not Hugging Face's, and depend ",
              "on how a prompt is cut into steps");
}

ModelRecipe make_recipe(const ModelOptions& options, const Checkpoint* checkpoint) {
  ModelRecipe recipe{load_config(options.folder, options.config_overrides), {}};
  recipe.quantization = options.quantization;
  Qwen3GraphOptions& graph = recipe.graph;
  graph.dtype = choose_dtype(stored_dtype(recipe.config, checkpoint), options.dtype);
  graph.outputs = options.outputs;
  graph.kv_cache_dtype = options.kv_cache_dtype;
  if (options.capacity_factor) set_capacity_factor(recipe, *options.capacity_factor);
  const bool headless = recipe.config.base_model && !recipe.config.tie_word_embeddings;
  if (headless && !(checkpoint && checkpoint->find(graph.lm_head_tensor)))
    graph.outputs = {.logits = false, .last_hidden_state = true};
  if (checkpoint) {
    const EmbeddingSources sources = resolve_tied_embeddings(*checkpoint, recipe.config.tie_word_embeddings);
    graph.embedding_tensor = sources.embedding;
    graph.lm_head_tensor = sources.head;
  } else if (recipe.config.tie_word_embeddings) {
    graph.lm_head_tensor = graph.embedding_tensor;
  }
  return recipe;
}

void check_quantization(const QuantizationRecipe& recipe, std::string_view target) {
  if (!recipe.none() && device_of_target(target) != "cpu")
    fail(ErrorCode::unsupported, "quantization ", to_string(recipe), " on ", target,
         ": only CPUs have kernels for quantised weights yet", remedy("use --device cpu, or --quantization none"));
}

void check_kv_cache_dtype(KvCacheDType dtype, std::string_view target) {
  if (dtype != KvCacheDType::automatic && device_of_target(target) != "cpu")
    fail(ErrorCode::unsupported, "a KV cache in ", to_string(dtype), " on ", target,
         ": only CPUs have kernels for it yet", remedy("use --device cpu, or --kv-cache-dtype auto"));
}

ColumnGroups column_groups(const QuantizationRecipe& recipe) {
  const auto of = [&](WeightFamily family) -> std::int64_t {
    const int bits = recipe.bits_of(family);
    return bits == 0 || bits == kLosslessBits ? 1 : recipe.group_size;
  };
  return {of(WeightFamily::attention), of(WeightFamily::mlp), of(WeightFamily::experts)};
}

Graph prepared_graph(const ModelRecipe& recipe, const Bucket& bucket, const Qwen3Outputs& outputs,
                     const std::function<Graph(const Graph&)>& prepare) {
  Qwen3GraphOptions options = recipe.graph;
  options.bucket = bucket;
  options.outputs.last_hidden_state = options.outputs.last_hidden_state || outputs.last_hidden_state;
  options.outputs.chosen_experts = outputs.chosen_experts;
  options.groups = column_groups(recipe.quantization);
  return keep_outputs(prepare(quantize_weights(build_qwen3(recipe.config, options), recipe.quantization)),
                      options.outputs, outputs);
}

Graph keep_outputs(Graph graph, const Qwen3Outputs& there, const Qwen3Outputs& wanted) {
  if (there == wanted) return graph;
  CAJAL_CHECK(there.logits >= wanted.logits && there.last_hidden_state >= wanted.last_hidden_state &&
              there.chosen_experts >= wanted.chosen_experts);
  std::vector<Value> kept;
  if (wanted.logits) kept.push_back(graph.outputs().front());
  if (wanted.last_hidden_state) kept.push_back(graph.outputs()[there.logits ? 1 : 0]);
  if (wanted.chosen_experts)
    for (const Value v : graph.outputs().subspan((there.logits ? 1 : 0) + (there.last_hidden_state ? 1 : 0)))
      kept.push_back(v);
  graph.set_outputs(std::move(kept));
  return eliminate_dead_code(graph);
}

}  // namespace cajal
