#include <algorithm>
#include <memory>

#include "compiler/passes.h"
#include "compiler/rewrite.h"

namespace cajal {
namespace {

template <class OpType>
const Node* as(const Node* node) {
  return node && std::holds_alternative<OpType>(node->op) ? node : nullptr;
}

// A region about to be made: the old nodes that it swallows, in order; its inputs; its results, as old values.
struct Match {
  std::string_view kind;
  std::vector<const Node*> nodes;
  std::vector<Value> inputs, results;
  const Node* place = nullptr;  // emitted instead of, or just before, this node
};

class Pass {
 public:
  Pass(const Graph& graph, std::span<const std::string_view> kinds)
      : rewriter_(graph), graph_(graph), kinds_(kinds), taken_(graph.nodes().size()), at_(graph.nodes().size(), -1) {}

  Graph run() {
    for (const Node& node : graph_.nodes()) find(node);
    rewriter_.copy_leaves();
    for (std::uint32_t n = 0; n < graph_.nodes().size(); ++n) {
      if (at_[n] >= 0) emit(matches_[static_cast<std::size_t>(at_[n])]);
      if (!taken_[n] && !is_leaf(graph_.node(n).op)) rewriter_.copy(graph_.node(n));
    }
    return rewriter_.finish();
  }

 private:
  bool wanted(std::string_view kind) const { return std::find(kinds_.begin(), kinds_.end(), kind) != kinds_.end(); }
  std::uint32_t index(const Node& node) const { return graph_.producer(node.results[0]); }

  void find(const Node& node) {
    std::optional<Match> match;
    if (wanted(kAddRmsNorm)) match = add_rms_norm(node);
    if (!match && wanted(kLinearSiluMulHalves)) match = linear_silu_mul_halves(node);
    if (!match && wanted(kSiluMulHalves)) match = silu_mul_halves(node);
    if (!match && wanted(kQkNormRopeKvWrite)) match = qk_norm_rope_kv_write(node);
    if (!match) return;
    for (const Node* n : match->nodes)
      if (taken_[index(*n)]) return;
    for (const Node* n : match->nodes) taken_[index(*n)] = true;
    at_[index(*match->place)] = static_cast<int>(matches_.size());
    matches_.push_back(std::move(*match));
  }

  // s = a + b; y = rms_norm(s): stands where the sum stood, since others read the sum too.
  std::optional<Match> add_rms_norm(const Node& add) const {
    if (!as<ops::Add>(&add) || !is_matrix(add.results[0])) return std::nullopt;
    for (const std::uint32_t user : rewriter_.users(add.results[0])) {
      const Node& norm = graph_.node(user);
      if (!as<ops::RmsNorm>(&norm) || norm.inputs[0] != add.results[0] ||
          !is_leaf(graph_.producer_node(norm.inputs[1]).op))
        continue;
      return Match{kAddRmsNorm,
                   {&add, &norm},
                   {add.inputs[0], add.inputs[1], norm.inputs[1]},
                   {add.results[0], norm.results[0]},
                   &add};
    }
    return std::nullopt;
  }

  std::optional<Match> silu_mul_halves(const Node& mul) const {
    if (!as<ops::SiluMul>(&mul) || !is_matrix(mul.results[0])) return std::nullopt;
    const Node* gate = own_slice(mul.inputs[0]);
    const Node* up = own_slice(mul.inputs[1]);
    if (!gate || !up || gate->inputs[0] != up->inputs[0]) return std::nullopt;
    const auto &g = std::get<ops::Slice>(gate->op), &u = std::get<ops::Slice>(up->op);
    const std::int64_t columns = graph_.type(gate->inputs[0]).shape[-1];
    if (g.begin != 0 || g.end != u.begin || u.end != columns) return std::nullopt;
    return Match{kSiluMulHalves, {gate, up, &mul}, {gate->inputs[0]}, {mul.results[0]}, &mul};
  }

  // The same with a product by a parameter that nothing else reads, and no bias.
  std::optional<Match> linear_silu_mul_halves(const Node& mul) const {
    auto match = silu_mul_halves(mul);
    if (!match) return std::nullopt;
    const Node* linear = as<ops::Linear>(&graph_.producer_node(match->inputs[0]));
    if (!linear || linear->inputs.size() != 2 || rewriter_.users(match->inputs[0]).size() != 2 ||
        rewriter_.is_output(match->inputs[0]))
      return std::nullopt;
    match->kind = kLinearSiluMulHalves;
    match->nodes.insert(match->nodes.begin(), linear);
    match->inputs = {linear->inputs[0], linear->inputs[1]};
    return match;
  }

  // Rows of columns and nothing between: what the kernels of these regions read.
  bool is_matrix(Value v) const { return graph_.type(v).shape.rank() == 2; }

  // The producer of `v` if it is an op of this type that nobody else reads.
  template <class OpType>
  const Node* own(Value v) const {
    const Node* node = as<OpType>(&graph_.producer_node(v));
    return node && rewriter_.only_user(v) ? node : nullptr;
  }
  const Node* own_slice(Value v) const { return own<ops::Slice>(v); }

  // rope(rms_norm(reshape(slice(qkv)))), or reshape(slice(qkv)) alone for v.
  struct Chain {
    const Node *slice = nullptr, *reshape = nullptr, *norm = nullptr, *rope = nullptr;
  };
  std::optional<Chain> chain(Value v, bool rotated) const {
    Chain c;
    if (rotated) {
      if (!(c.rope = own<ops::Rope>(v)) || !(c.norm = own<ops::RmsNorm>(c.rope->inputs[0]))) return std::nullopt;
      v = c.norm->inputs[0];
    }
    if (!(c.reshape = own<ops::Reshape>(v)) || !(c.slice = own_slice(c.reshape->inputs[0]))) return std::nullopt;
    const Shape &sliced = graph_.type(c.slice->results[0]).shape, &heads = graph_.type(v).shape;
    if (sliced.rank() != 2 || heads.rank() != 3 || sliced[0] != heads[0]) return std::nullopt;
    return c;
  }

  std::optional<Match> qk_norm_rope_kv_write(const Node& attention) const {
    if (!as<ops::PagedAttention>(&attention)) return std::nullopt;
    const Node* k_write = own<ops::KvWrite>(attention.inputs[1]);
    const Node* v_write = own<ops::KvWrite>(attention.inputs[2]);
    if (!k_write || !v_write || k_write->inputs[2] != v_write->inputs[2]) return std::nullopt;
    const auto q = chain(attention.inputs[0], true), k = chain(k_write->inputs[1], true),
               v = chain(v_write->inputs[1], false);
    if (!q || !k || !v) return std::nullopt;
    const Value qkv = q->slice->inputs[0], table = q->rope->inputs[1];
    if (k->slice->inputs[0] != qkv || v->slice->inputs[0] != qkv || k->rope->inputs[1] != table) return std::nullopt;
    if (!covers_in_order({q->slice, k->slice, v->slice}, graph_.type(qkv).shape[1])) return std::nullopt;
    if (std::get<ops::RmsNorm>(q->norm->op).epsilon != std::get<ops::RmsNorm>(k->norm->op).epsilon) return std::nullopt;
    Match m{kQkNormRopeKvWrite,
            {q->slice, k->slice, v->slice, q->reshape, q->norm, k->reshape, k->norm, v->reshape, q->rope, k->rope,
             k_write, v_write},
            {qkv, q->norm->inputs[1], k->norm->inputs[1], table, k_write->inputs[0], v_write->inputs[0],
             k_write->inputs[2]},
            {q->rope->results[0], k_write->results[0], v_write->results[0]},
            &attention};
    return m;
  }

  static bool covers_in_order(std::initializer_list<const Node*> slices, std::int64_t columns) {
    std::int64_t at = 0;
    for (const Node* node : slices) {
      const auto& slice = std::get<ops::Slice>(node->op);
      if (slice.begin != at) return false;
      at = slice.end;
    }
    return at == columns;
  }

  void emit(const Match& match) {
    auto body = std::make_shared<Graph>();
    std::vector<std::pair<Value, Value>> map;  // old value, value in the body
    const auto in_body = [&](Value old) {
      const auto it = std::find_if(map.begin(), map.end(), [&](const auto& entry) { return entry.first == old; });
      CAJAL_CHECK(it != map.end(), match.kind, " reads something that is no input of it");
      return it->second;
    };
    for (std::size_t i = 0; i < match.inputs.size(); ++i) {
      const Value now = rewriter_[match.inputs[i]];
      const std::string name = detail::join("in", i);
      map.emplace_back(match.inputs[i], body->add_leaf(ops::Input{name}, rewriter_.to().type(now), name));
    }
    for (const Node* node : match.nodes) {
      std::vector<Value> inputs;
      for (const Value v : node->inputs) inputs.push_back(in_body(v));
      const auto results = body->add_multi(node->op, std::move(inputs), node->name);
      for (std::size_t i = 0; i < results.size(); ++i) map.emplace_back(node->results[i], results[i]);
    }
    std::vector<Value> outputs;
    for (const Value v : match.results) outputs.push_back(in_body(v));
    body->set_outputs(std::move(outputs));
    const auto results = rewriter_.to().add_multi(ops::Region{std::string(match.kind), std::move(body)},
                                                  rewriter_(match.inputs), match.nodes.back()->name);
    for (std::size_t i = 0; i < results.size(); ++i) rewriter_.map(match.results[i], results[i]);
  }

  Rewriter rewriter_;
  const Graph& graph_;
  std::span<const std::string_view> kinds_;
  std::vector<bool> taken_;  // by node: swallowed by a match
  std::vector<int> at_;      // by node: the match to emit there
  std::vector<Match> matches_;
};

}  // namespace

Graph fuse_regions(const Graph& graph, std::span<const std::string_view> kinds) { return Pass(graph, kinds).run(); }

namespace {

// Adds the nodes of a body to `to`, where its inputs are `inputs`, and gives the values that its outputs then are.
std::vector<Value> add_body(Graph& to, const Graph& body, std::span<const Value> inputs,
                            const std::function<bool(std::string_view)>& has_kernel) {
  std::vector<Value> map(body.num_values());
  std::size_t leaves = 0;
  const auto mapped = [&](std::span<const Value> values) {
    std::vector<Value> now;
    for (const Value v : values) now.push_back(map[v.id]);
    return now;
  };
  for (const Node& node : body.nodes()) {
    if (is_leaf(node.op)) {
      map[node.results[0].id] = inputs[leaves++];
      continue;
    }
    const auto* region = std::get_if<ops::Region>(&node.op);
    const bool open = region && !has_kernel(region->kind);
    const auto results = open ? add_body(to, *region->body, mapped(node.inputs), has_kernel)
                              : to.add_multi(node.op, mapped(node.inputs), node.name);
    for (std::size_t i = 0; i < results.size(); ++i) map[node.results[i].id] = results[i];
  }
  return mapped(body.outputs());
}

}  // namespace

Graph inline_regions(const Graph& graph, const std::function<bool(std::string_view)>& has_kernel) {
  Rewriter rewriter(graph);
  rewriter.copy_leaves();
  for (const Node& node : graph.nodes()) {
    if (is_leaf(node.op)) continue;
    const auto* region = std::get_if<ops::Region>(&node.op);
    if (!region || has_kernel(region->kind)) {
      rewriter.copy(node);
      continue;
    }
    const auto results = add_body(rewriter.to(), *region->body, rewriter(node.inputs), has_kernel);
    for (std::size_t i = 0; i < results.size(); ++i) rewriter.map(node.results[i], results[i]);
  }
  return rewriter.finish();
}

}  // namespace cajal
