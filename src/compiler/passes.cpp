#include "compiler/passes.h"

#include "compiler/rewrite.h"

namespace cajal {

Graph eliminate_dead_code(const Graph& graph) {
  std::vector<bool> alive(graph.nodes().size());
  std::vector<std::uint32_t> todo;
  const auto reach = [&](Value v) {
    const std::uint32_t n = graph.producer(v);
    if (!alive[n]) alive[n] = true, todo.push_back(n);
  };
  for (const Value v : graph.outputs()) reach(v);
  for (const Node& node : graph.nodes())
    for (std::size_t r = 0; r < node.results.size(); ++r)
      if (overwrites_input(node.op, static_cast<int>(r))) reach(node.results[r]);
  while (!todo.empty()) {
    const std::uint32_t n = todo.back();
    todo.pop_back();
    for (const Value v : graph.node(n).inputs) reach(v);
  }
  Rewriter rewriter(graph);
  for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.node(n);
    if (is_leaf(node.op) && (alive[n] || std::holds_alternative<ops::Input>(node.op))) rewriter.copy(node);
  }
  for (std::uint32_t n = 0; n < graph.nodes().size(); ++n)
    if (alive[n] && !is_leaf(graph.node(n).op)) rewriter.copy(graph.node(n));
  return rewriter.finish();
}

Graph merge_sum_parts(const Graph& graph, std::int64_t least_outputs) {
  Rewriter rewriter(graph);
  rewriter.copy_leaves();
  for (const Node& node : graph.nodes()) {
    if (is_leaf(node.op)) continue;
    Node merged = node;
    const auto shape_of = [&](std::size_t weight) { return graph.type(node.inputs[weight]).shape; };
    if (auto* linear = std::get_if<ops::Linear>(&merged.op); linear && shape_of(1)[0] >= least_outputs)
      linear->sum_parts = 1;
    if (auto* experts = std::get_if<ops::MoeExperts>(&merged.op); experts && shape_of(4)[1] >= least_outputs)
      experts->sum_parts = 1;
    if (auto* outputs = std::get_if<ops::ExpertOutputs>(&merged.op); outputs && shape_of(3)[1] >= least_outputs)
      outputs->sum_parts = 1;
    rewriter.copy(merged);
  }
  return rewriter.finish();
}

namespace {

// How a leaf is used, through the values that share its memory.
struct Uses {
  bool linear_weight = false, k_cache = false, v_cache = false;
  bool other = false;  // where only plain storage will do
};

void collect_uses(const Graph& graph, std::vector<Uses>& uses_of) {
  std::vector<std::uint32_t> root(graph.num_values());
  for (std::uint32_t v = 0; v < graph.num_values(); ++v) root[v] = v;
  for (const Node& node : graph.nodes()) {
    for (std::size_t r = 0; r < node.results.size(); ++r)
      if (const auto alias = aliased_input(node.op, static_cast<int>(r)))
        root[node.results[r].id] = root[node.inputs[static_cast<std::size_t>(*alias)].id];
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      Uses& uses = uses_of[root[node.inputs[i].id]];
      const int experts = expert_weights_input(node.op);
      if ((std::holds_alternative<ops::Linear>(node.op) && i == 1) ||
          (experts >= 0 && i >= static_cast<std::size_t>(experts)))
        uses.linear_weight = true;
      else if (std::holds_alternative<ops::PagedAttention>(node.op) && (i == 1 || i == 2))
        (i == 1 ? uses.k_cache : uses.v_cache) = true;
      else if (!(std::holds_alternative<ops::Embedding>(node.op) && i == 0) &&
               !(std::holds_alternative<ops::KvWrite>(node.op) && i == 0))
        uses.other = true;
    }
  }
  for (const Value v : graph.outputs()) uses_of[root[v.id]].other = true;
}

}  // namespace

Graph assign_storage(const Graph& graph, const StoragePolicy& policy) {
  for (const Node& node : graph.nodes())
    CAJAL_CHECK(!std::holds_alternative<ops::Region>(node.op),
                "storage is assigned before regions are made: a body repeats its inputs' types");
  std::vector<Uses> uses(graph.num_values());
  collect_uses(graph, uses);
  Rewriter rewriter(graph);
  for (const Node& node : graph.nodes()) {
    if (!is_leaf(node.op)) continue;
    const Value v = node.results[0];
    TensorType type = graph.type(v);
    const Uses& use = uses[v.id];
    const bool parameter = std::holds_alternative<ops::Parameter>(node.op),
               state = std::holds_alternative<ops::State>(node.op);
    if (use.other) {
    } else if (parameter && use.linear_weight && !use.k_cache && !use.v_cache) {
      type.storage = policy.linear_weight(type);
    } else if (state && use.k_cache != use.v_cache) {
      type.storage = use.k_cache ? policy.k_cache(type) : policy.v_cache(type);
    }
    rewriter.map(v, rewriter.to().add_leaf(node.op, type, node.name));
  }
  for (const Node& node : graph.nodes())
    if (!is_leaf(node.op)) rewriter.copy(node);
  return rewriter.finish();
}

}  // namespace cajal
