#include "engine/inspect.h"

#include <algorithm>
#include <limits>
#include <map>

#include "base/checked.h"
#include "base/log.h"
#include "engine/model_recipe.h"
#include "engine/pooling_runner.h"

namespace cajal {
namespace {

constexpr std::int64_t kDefaultContextLength = 8192;
constexpr std::int64_t kMostSequences = 1024;  // that `fits` goes up to

std::int64_t elements(const Graph& graph, Value v) { return graph.type(v).shape.elements(); }

std::int64_t kv_bytes_per_token(const Graph& graph) {
  return static_cast<std::int64_t>(kv_bytes_per_block(graph)) / kKvBlockSize;
}

// A step that fills its bucket, at the end of the longest sequences.
StepShape full_step(GraphKind kind, const BucketLimits& limits) {
  const auto at_end = [&](std::int64_t seqs, std::int64_t rows, std::int64_t logits) {
    return uniform_step(seqs, {limits.max_model_len - rows, rows}, logits);
  };
  switch (kind) {
    case GraphKind::context_encoding: return uniform_step(1, {0, limits.max_context_length}, 1);
    case GraphKind::chunked_prefill: return at_end(1, limits.prefill_chunk_size, 1);
    case GraphKind::token_generation: return at_end(limits.max_num_seqs, 1, 1);
    case GraphKind::speculation:
      return at_end(limits.max_num_seqs, limits.speculation_length, limits.speculation_length);
    case GraphKind::encoding: return uniform_step(1, {0, limits.prefill_chunk_size}, 1);
  }
  return {};
}

std::vector<LargeValue> values_of(const TargetPlan& planned) {
  const Graph& graph = planned.graph;
  const MemoryPlan& plan = planned.memory;
  std::vector<LargeValue> values;
  for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.node(n);
    for (const Value v : node.results)
      if (const Slot& slot = plan.slots[v.id]; slot.bytes > 0)
        values.push_back({node.name, to_string(graph.type(v)), slot.offset, slot.bytes});
    if (n < plan.scratch.size() && plan.scratch[n].bytes > 0)
      values.push_back({node.name, "scratch", plan.scratch[n].offset, plan.scratch[n].bytes});
  }
  std::stable_sort(values.begin(), values.end(), [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return values;
}

BucketLimits resolve(BucketLimits limits, const Qwen3Config& config) {
  if (limits.max_model_len <= 0) limits.max_model_len = default_max_model_len(config);
  if (limits.max_context_length <= 0) limits.max_context_length = kDefaultContextLength;
  limits.max_context_length = std::min(limits.max_context_length, limits.max_model_len);
  limits.prefill_chunk_size = std::min(limits.prefill_chunk_size, limits.max_model_len);
  limits.speculation_length = std::min(limits.speculation_length, limits.max_model_len);
  if (limits.max_num_seqs < 1 || limits.prefill_chunk_size < 1 || limits.speculation_length < 1)
    fail(ErrorCode::invalid_argument, "max_num_seqs ", limits.max_num_seqs, ", prefill_chunk_size ",
         limits.prefill_chunk_size, ", speculation_length ", limits.speculation_length,
         ": expected at least 1 of each");
  return limits;
}

// Builds graphs of one model for one target.
class Inspector {
 public:
  Inspector(const InspectOptions& options, const Target& target, int num_threads, Inspection& into)
      : options_(options), target_(target), num_threads_(num_threads), into_(into) {
    graph_options_.dtype = into.dtype;
    graph_options_.kv_cache_dtype = options.kv_cache_dtype;
    graph_options_.parallel = options.parallel;
    graph_options_.groups = column_groups(options.quantization);
    if (into.config.tie_word_embeddings) graph_options_.lm_head_tensor = graph_options_.embedding_tensor;
    if (options.encodes) graph_options_.outputs = {.logits = false, .last_hidden_state = true};
  }

  Graph build(const Bucket& bucket) const {
    Qwen3GraphOptions o = graph_options_;
    o.bucket = bucket;
    return quantize_weights(build_qwen3(into_.config, o), options_.quantization);
  }

  // As if there were one rank.
  Graph build_whole() const {
    Qwen3GraphOptions o = graph_options_;
    o.bucket = Bucket{};
    o.parallel = {};
    return build_qwen3(into_.config, o);
  }

  GraphReport report(GraphKind kind) {
    GraphReport r;
    r.kind = kind;
    r.bucket = bucket_for(kind, into_.limits);
    const Graph graph = build(r.bucket), prepared = target_.prepare(graph);
    if (options_.graph_text == kind) into_.graph_before = to_text(graph), into_.graph_after = to_text(prepared);
    const TargetPlan plan = target_.plan(prepared, num_threads_);
    for (const Node& node : plan.graph.nodes()) r.num_nodes += !is_leaf(node.op);
    r.arena_bytes = plan.memory.arena_bytes;
    r.largest_values = values_of(plan);
    for (const LargeValue& v : r.largest_values) r.values_bytes += v.bytes;
    r.largest_values.resize(std::min(r.largest_values.size(), options_.num_largest_values));
    r.kernels = kernel_uses(plan.graph, plan.kernel_names);
    r.overlap = find_overlap(plan.graph, sequential_schedule(plan.graph), plan.memory);
    r.step = full_step(kind, into_.limits);
    r.cost = step_cost(prepared, r.step);
    if (options_.ceilings) r.floor_seconds = floor_seconds(r.cost, *options_.ceilings, into_.dtype);
    return r;
  }

  std::uint64_t arena_bytes(std::int64_t num_seqs) const {
    const std::int64_t rows = std::max(into_.limits.prefill_chunk_size, num_seqs);
    const Bucket bucket{rows, num_seqs, ceil_div(into_.limits.max_model_len, kKvBlockSize),
                        options_.encodes ? rows : num_seqs};
    return target_.plan(target_.prepare(build(bucket)), num_threads_).memory.arena_bytes;
  }

 private:
  const InspectOptions& options_;
  const Target& target_;
  int num_threads_;
  Inspection& into_;
  Qwen3GraphOptions graph_options_;
};

std::int64_t blocks_of_pool(const BucketLimits& limits) {
  return checked_mul(limits.max_num_seqs, ceil_div(limits.max_model_len, kKvBlockSize), "blocks of the cache") + 1;
}

// Of steps that encode.
RunnerLimits runner_limits(const BucketLimits& limits) {
  RunnerLimits runner;
  runner.max_num_seqs = limits.max_num_seqs;
  runner.max_num_batched_tokens = std::max(limits.prefill_chunk_size, limits.max_num_seqs);
  runner.max_model_len = limits.max_model_len;
  return runner;
}

std::uint64_t usable(std::uint64_t free_bytes) { return free_bytes - free_bytes / 16; }

// Tokens of a sequence; 0 if not even a block of each fits.
std::int64_t longest_that_fits(std::int64_t wanted, const MemoryNeed& need) {
  const std::uint64_t fixed = need.weight_bytes + need.arena_bytes, space = usable(need.free_bytes);
  const auto block_bytes = static_cast<std::uint64_t>(need.kv_bytes_per_token * kKvBlockSize);
  CAJAL_CHECK(block_bytes > 0 && need.num_seqs > 0 && wanted > 0);
  if (space < fixed) return 0;
  const auto blocks = static_cast<std::int64_t>((space - fixed) / block_bytes) - 1;  // one is the spare one
  return std::min(wanted, std::max<std::int64_t>(blocks, 0) / need.num_seqs * kKvBlockSize);
}

std::vector<Fit> fits(const Inspector& inspector, const Inspection& i) {
  std::vector<Fit> all;
  for (std::int64_t n = 1; n <= kMostSequences; n *= 2) {
    const MemoryNeed need{i.weight_bytes, i.kv_bytes_per_token, inspector.arena_bytes(n), n, i.memory_bytes};
    all.push_back({n, longest_that_fits(i.limits.max_model_len, need)});
    if (all.back().max_model_len == 0) break;
  }
  return all;
}

}  // namespace

ParameterCount count_parameters(const Graph& graph) {
  ParameterCount count;
  for (const Node& node : graph.nodes())
    if (std::holds_alternative<ops::Parameter>(node.op)) count.total += elements(graph, node.results[0]);
  std::int64_t unused = 0;
  for (const Node& node : graph.nodes()) {
    if (std::holds_alternative<ops::Embedding>(node.op)) count.embedding = elements(graph, node.inputs[0]);
    const int first = expert_weights_input(node.op);
    if (first < 0) continue;
    const auto at = static_cast<std::size_t>(first);
    const std::int64_t all = elements(graph, node.inputs[at]) + elements(graph, node.inputs[at + 1]);
    const std::int64_t experts = graph.type(node.inputs[at + 1]).shape[0];
    const std::int64_t chosen = graph.type(node.inputs[at - 1]).shape[1];
    count.experts += all;
    unused += all / experts * std::max<std::int64_t>(experts - chosen, 0);
  }
  count.active = count.total - unused;
  return count;
}

std::uint64_t weight_bytes(const Graph& graph) {
  std::uint64_t bytes = 0;
  for (const Node& node : graph.nodes())
    if (std::holds_alternative<ops::Parameter>(node.op)) bytes += graph.type(node.results[0]).bytes();
  return bytes;
}

std::uint64_t kv_bytes_per_block(const Graph& graph) {
  std::uint64_t bytes = 0;
  for (const Node& node : graph.nodes()) {
    if (!std::holds_alternative<ops::State>(node.op)) continue;
    TensorType type = graph.type(node.results[0]);
    type.shape[0] = 1;
    bytes += type.bytes();
  }
  return bytes;
}

std::vector<KernelUse> kernel_uses(const Graph& graph, const std::vector<std::string>& kernel_names) {
  std::map<std::pair<std::string, std::string>, int> counts;
  for (std::uint32_t n = 0; n < kernel_names.size(); ++n) {
    const Op& op = graph.node(n).op;
    const auto* region = std::get_if<ops::Region>(&op);
    if (!kernel_names[n].empty()) ++counts[{region ? region->kind : op_name(op), kernel_names[n]}];
  }
  std::vector<KernelUse> uses;
  uses.reserve(counts.size());
  for (const auto& [key, count] : counts) uses.push_back({key.first, key.second, count});
  std::stable_sort(uses.begin(), uses.end(), [](const auto& a, const auto& b) { return a.nodes > b.nodes; });
  return uses;
}

Inspection inspect(const InspectOptions& options, const Target& target, int num_threads) {
  CAJAL_CHECK(options.memory_bytes.has_value());
  Inspection i;
  i.model = options.folder;
  i.device = i.target = target.name();
  i.config = load_config(options.folder, options.config_overrides);
  i.dtype = choose_dtype(i.config.dtype, options.dtype);
  check_quantization(options.quantization, target.name());
  check_kv_cache_dtype(options.kv_cache_dtype, target.name());
  i.limits = resolve(options.limits, i.config);
  Inspector inspector(options, target, num_threads, i);
  const Graph smallest = target.prepare(inspector.build(Bucket{}));
  i.parallel = options.parallel;
  i.parameters = count_parameters(target.prepare(inspector.build_whole()));
  i.weight_bytes = weight_bytes(smallest);
  i.kv_bytes_per_token = kv_bytes_per_token(smallest);
  std::vector<GraphKind> kinds = {GraphKind::context_encoding, GraphKind::chunked_prefill, GraphKind::token_generation,
                                  GraphKind::speculation};
  if (options.encodes) kinds = {GraphKind::encoding};
  for (const GraphKind kind : kinds) i.graphs.push_back(inspector.report(kind));
  const std::int64_t blocks = options.encodes ? num_pooling_blocks(runner_limits(i.limits)) : blocks_of_pool(i.limits);
  i.memory = {i.weight_bytes,
              checked_mul(kv_bytes_per_block(smallest), static_cast<std::uint64_t>(blocks), "bytes of the cache"),
              inspector.arena_bytes(i.limits.max_num_seqs)};
  i.memory_bytes = *options.memory_bytes;
  i.fits = fits(inspector, i);
  return i;
}

Inspection inspect(const InspectOptions& options, Backend& backend) {
  InspectOptions here = options;
  const auto ranks = static_cast<std::uint64_t>(options.parallel.tensor_parallel_size) *
                     static_cast<std::uint64_t>(options.parallel.expert_parallel_size);
  here.memory_bytes = options.memory_bytes.value_or(backend.free_bytes() / std::max<std::uint64_t>(ranks, 1));
  Inspection i = inspect(here, *make_target(backend.target()), backend.host_threads().size());
  i.device = backend.description();
  return i;
}

void check_fits(const Inspection& i) {
  const MemoryByUse& m = i.memory;
  if (m.total() <= usable(i.memory_bytes)) return;
  const MemoryNeed need{m.weight_bytes, i.kv_bytes_per_token, m.arena_bytes, i.limits.max_num_seqs, i.memory_bytes};
  const std::int64_t longest = longest_that_fits(i.limits.max_model_len, need);
  // Of sequences as long as they are: the pool without its spare block, cut into theirs.
  const std::int64_t pool =
      longest_that_fits(std::numeric_limits<std::int64_t>::max(), {.weight_bytes = m.weight_bytes,
                                                                   .kv_bytes_per_token = i.kv_bytes_per_token,
                                                                   .arena_bytes = m.arena_bytes,
                                                                   .free_bytes = i.memory_bytes});
  const std::int64_t most = pool / round_up(i.limits.max_model_len, kKvBlockSize);
  fail(ErrorCode::out_of_memory, i.model, " does not fit: ", m.weight_bytes, " bytes of weights, ", m.kv_cache_bytes,
       " of cache for ", i.limits.max_num_seqs, " sequences of ", i.limits.max_model_len, " tokens and ", m.arena_bytes,
       " of activations are ", m.total(), " bytes, and of ", i.memory_bytes, " ", usable(i.memory_bytes),
       " may be used",
       longest > 0 ? remedy("take sequences of at most ", longest, " tokens",
                            most > 0 ? detail::join(", or ", most, " of these") : std::string())
                   : remedy("take a smaller model or dtype, or more memory"));
}

std::int64_t fit_max_model_len(std::int64_t wanted, const MemoryNeed& need) {
  const std::int64_t length = longest_that_fits(wanted, need);
  if (length > 0) return length;
  const auto block_bytes = static_cast<std::uint64_t>(need.kv_bytes_per_token * kKvBlockSize);
  const std::uint64_t least =
      need.weight_bytes + need.arena_bytes + block_bytes * static_cast<std::uint64_t>(need.num_seqs + 1);
  fail(ErrorCode::out_of_memory, "not enough memory: ", need.weight_bytes, " bytes of weights, ", need.arena_bytes,
       " of activations and ", least - need.weight_bytes - need.arena_bytes, " of cache for ", need.num_seqs,
       " sequences of ", kKvBlockSize, " tokens are ", least, " bytes, and of ", need.free_bytes, " free ones ",
       usable(need.free_bytes), " may be used",
       remedy("free memory, or lower the number of sequences, or take a smaller model"));
}

std::int64_t fit_max_model_len(const Model& model, std::int64_t max_num_seqs, std::int64_t max_num_batched_tokens) {
  const std::int64_t wanted = default_max_model_len(model.config());
  const Bucket largest{max_num_batched_tokens, max_num_seqs, ceil_div(wanted, kKvBlockSize),
                       std::min(max_num_seqs, max_num_batched_tokens)};
  const Graph graph = model.graph(largest);
  const MemoryNeed need{0, kv_bytes_per_token(graph), model.backend().compile(graph)->plan().arena_bytes, max_num_seqs,
                        model.free_bytes()};
  const std::int64_t length = fit_max_model_len(wanted, need);
  if (length < wanted)
    log_warning("max-model-len is lowered from ", wanted, " to ", length, ": the cache takes ", need.kv_bytes_per_token,
                " bytes a token for each of ", max_num_seqs, " sequences, and ", need.free_bytes, " bytes are free");
  return length;
}

}  // namespace cajal
