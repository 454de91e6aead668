#pragma once
// What is known of a model before any weight is loaded: sizes, memory plans, graphs, the least time of a step. Needs only
// config.json, takes no memory to speak of, and so works for models that this machine could never run.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backends/target.h"
#include "engine/cost.h"
#include "engine/model.h"
#include "graph/bucket.h"

namespace cajal {

struct ParameterCount {
  std::int64_t total = 0;      // a table that embedding and head share counts once
  std::int64_t active = 0;     // that one token uses: of the experts only the chosen; embedding and head whole
  std::int64_t embedding = 0;  // the embedding's table, a shared one included
  std::int64_t experts = 0;    // of all experts together; 0 for a dense model
};
ParameterCount count_parameters(const Graph& graph);
std::uint64_t weight_bytes(const Graph& graph);        // as the graph's types store them, padding included
std::uint64_t kv_bytes_per_block(const Graph& graph);  // of the cache, over all layers

struct LargeValue {
  std::string name, type;  // of the node that makes it; "bf16[512,3072]", or "scratch"
  std::uint64_t offset = 0, bytes = 0;
};

struct KernelUse {
  std::string op, kernel;  // "linear", or a region's kind; the kernel's name
  int nodes = 0;
};

// Of a compiled graph and its kernels' names by node; most nodes first.
std::vector<KernelUse> kernel_uses(const Graph& graph, const std::vector<std::string>& kernel_names);

// A graph, as the target compiles it.
struct GraphReport {
  GraphKind kind = GraphKind::token_generation;
  Bucket bucket;
  std::size_t num_nodes = 0;               // leaves not counted, after the passes
  std::uint64_t arena_bytes = 0;           // what activations take
  std::uint64_t values_bytes = 0;          // what they would take without sharing memory
  std::vector<LargeValue> largest_values;  // largest first, at most InspectOptions::num_largest_values
  std::vector<KernelUse> kernels;          // most nodes first
  std::string overlap;                     // what is wrong with the plan; empty, or a bug of ours

  StepShape step;  // a full step: every row used, sequences as long as the bucket allows
  Cost cost;
  std::optional<double> floor_seconds;  // if the ceilings are given
};

// The longest sequences that fit, if `num_seqs` run together; 0 if not even the shortest do.
struct Fit {
  std::int64_t num_seqs = 0, max_model_len = 0;
};

struct InspectOptions {
  std::string folder;
  std::optional<DType> dtype;  // absent: what the checkpoint is stored in
  QuantizationRecipe quantization = {};
  KvCacheDType kv_cache_dtype = KvCacheDType::automatic;
  Json config_overrides;  // as in ModelOptions
  // 0: max_model_len is the model's own, max_context_length that but at most 8192.
  BucketLimits limits{.max_num_seqs = 1,
                      .max_model_len = 0,
                      .max_context_length = 0,
                      .prefill_chunk_size = 512,
                      .speculation_length = 4};
  Parallelism parallel = {};                  // the ranks that the model is shared out over
  bool encodes = false;                       // graphs that give vectors of texts, instead of those that generate
  std::optional<GraphKind> graph_text;        // the graph whose text is wanted
  std::optional<std::uint64_t> memory_bytes;  // a rank's, for `fits`; absent: its share of what the backend has free
  std::optional<Ceilings> ceilings;
  std::size_t num_largest_values = 8;
};

// What runs the limits' number of sequences, each as long as they allow; on one of the ranks.
struct MemoryByUse {
  std::uint64_t weight_bytes = 0;
  std::uint64_t kv_cache_bytes = 0;  // the pool, its spare block included
  std::uint64_t arena_bytes = 0;     // activations and workspace
  std::uint64_t total() const { return weight_bytes + kv_cache_bytes + arena_bytes; }
};

struct Inspection {
  std::string model, device, target;
  Qwen3Config config;
  DType dtype = DType::bf16;
  Parallelism parallel;
  ParameterCount parameters;       // of all ranks together
  std::uint64_t weight_bytes = 0;  // as stored on the device; this and all that follows is one rank's
  std::int64_t kv_bytes_per_token = 0;
  BucketLimits limits;              // resolved
  std::vector<GraphReport> graphs;  // one for each kind of graph that the use has
  MemoryByUse memory;
  std::uint64_t memory_bytes = 0;
  std::vector<Fit> fits;                  // for 1, 2, 4, … sequences, until none fit
  std::string graph_before, graph_after;  // text of the wanted graph, before and after the backend's passes
};
// For the target, with workspace for so many host threads; `options.memory_bytes` must be given.
Inspection inspect(const InspectOptions& options, const Target& target, int num_threads);
Inspection inspect(const InspectOptions& options, Backend& backend);

// Error(out_of_memory) if what its limits take does not fit `memory_bytes`: the numbers, and the longest sequences and the
// most of them that would.
void check_fits(const Inspection& inspection);

// What takes memory when a model runs, in bytes.
struct MemoryNeed {
  std::uint64_t weight_bytes = 0;  // that are still to be loaded; 0 if they already are, as free_bytes lacks them then
  std::int64_t kv_bytes_per_token = 0;
  std::uint64_t arena_bytes = 0;
  std::int64_t num_seqs = 1;  // that run together, each as long as all others
  std::uint64_t free_bytes = 0;
};
// How long sequences may be: `wanted`, or less if that does not fit. A sixteenth of the free memory is left to others.
// Throws Error(out_of_memory) with the numbers if not even one block of kKvBlockSize tokens a sequence fits.
std::int64_t fit_max_model_len(std::int64_t wanted, const MemoryNeed& need);

// The default max-model-len of a loaded model: what its configuration allows, lowered with a warning to what fits.
std::int64_t fit_max_model_len(const Model& model, std::int64_t max_num_seqs, std::int64_t max_num_batched_tokens);

}  // namespace cajal
