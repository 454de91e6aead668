#include <algorithm>
#include <map>
#include <set>

#include "compiler/passes.h"
#include "compiler/rewrite.h"

namespace cajal {
namespace {

std::string module_of(const Node& linear) { return linear.name.substr(0, linear.name.rfind('.') + 1); }

// "a.b.q_proj", "a.b.k_proj", "a.b.v_proj" -> "a.b.qkv_proj"; gate_proj and up_proj -> gate_up_proj.
std::string joined_name(const std::vector<const Node*>& linears) {
  std::string name = module_of(*linears[0]), stems;
  bool letters = true;
  for (const Node* linear : linears) {
    std::string stem = linear->name.substr(linear->name.rfind('.') + 1);
    if (stem.ends_with("_proj")) stem.resize(stem.size() - 5);
    letters = letters && stem.size() == 1;
  }
  for (const Node* linear : linears) {
    std::string stem = linear->name.substr(linear->name.rfind('.') + 1);
    if (stem.ends_with("_proj")) stem.resize(stem.size() - 5);
    stems += (stems.empty() || letters ? "" : "_") + stem;
  }
  return name + stems + "_proj";
}

class Pass {
 public:
  explicit Pass(const Graph& graph) : rewriter_(graph), graph_(graph) {}

  Graph run() {
    find_groups();
    for (const Node& node : graph_.nodes())
      if (is_leaf(node.op) && !swallowed_.contains(&node)) rewriter_.copy(node);
    for (auto& [first, group] : groups_) join_weights(group);
    for (const Node& node : graph_.nodes()) {
      if (is_leaf(node.op) || rewriter_.mapped(node.results[0])) continue;
      const auto group = groups_.find(node.results[0].id);
      if (group == groups_.end())
        rewriter_.copy(node);
      else
        emit(group->second);
    }
    return rewriter_.finish();
  }

 private:
  struct Group {
    std::vector<const Node*> linears;  // in the order of the graph
    Value weight{}, bias{};
  };

  // Whether rows are stored one by one, or will be laid out later, so that those of several tensors can be put below each other.
  bool row_by_row(Value v) const {
    const TensorType& type = graph_.type(v);
    return type.plain() || type.lossless() || (type.quantized() && type.quantized()->tile_rows == 1);
  }

  // A parameter that only this linear reads, made of such rows.
  const Node* own_parameter(const Node& linear, std::size_t input) const {
    const Value v = linear.inputs[input];
    const Node& leaf = graph_.producer_node(v);
    const auto* parameter = std::get_if<ops::Parameter>(&leaf.op);
    const bool own = parameter && parameter->repeat == 1 && row_by_row(v) && rewriter_.only_user(v) == &linear;
    return own ? &leaf : nullptr;
  }

  bool can_join(const Node& node) const {
    if (!std::holds_alternative<ops::Linear>(node.op)) return false;
    for (std::size_t i = 1; i < node.inputs.size(); ++i)
      if (!own_parameter(node, i)) return false;
    return true;
  }

  void find_groups() {
    // Of one module: a shared expert's gate and up beside a router are a pair of their own.
    std::map<std::pair<std::uint32_t, std::string>, std::vector<const Node*>> by_input;
    for (const Node& node : graph_.nodes())
      if (can_join(node)) by_input[{node.inputs[0].id, module_of(node)}].push_back(&node);
    for (auto& [input, linears] : by_input) {
      const Node& first = *linears[0];
      std::erase_if(linears, [&](const Node* other) {
        return other->inputs.size() != first.inputs.size() ||
               graph_.type(other->inputs[1]).storage != graph_.type(first.inputs[1]).storage ||
               std::get<ops::Linear>(other->op).sum_parts != std::get<ops::Linear>(first.op).sum_parts ||
               std::get<ops::Linear>(other->op).partial != std::get<ops::Linear>(first.op).partial;
      });
      if (linears.size() < 2 || !claim_names(linears)) continue;
      for (const Node* linear : linears)
        for (std::size_t i = 1; i < linear->inputs.size(); ++i) swallowed_.insert(own_parameter(*linear, i));
      groups_[first.results[0].id] = {linears, {}, {}};
    }
  }

  // Names of leaves are unique: a group that would be called like another leaf stays apart.
  bool claim_names(const std::vector<const Node*>& linears) {
    const std::string name = joined_name(linears);
    for (const char* suffix : {".weight", ".bias"})
      if (graph_.find_leaf(name + suffix) || names_.contains(name + suffix)) return false;
    names_.insert({name + ".weight", name + ".bias"});
    return true;
  }

  Value join(const std::vector<const Node*>& linears, std::size_t input, const std::string& name) {
    ops::Parameter joined;
    TensorType type = graph_.type(linears[0]->inputs[input]);
    type.shape[0] = 0;
    for (const Node* linear : linears) {
      const auto& pieces = std::get<ops::Parameter>(own_parameter(*linear, input)->op).pieces;
      joined.pieces.insert(joined.pieces.end(), pieces.begin(), pieces.end());
      type.shape[0] += graph_.type(linear->inputs[input]).shape[0];
    }
    return rewriter_.to().add_leaf(std::move(joined), type, name);
  }

  void join_weights(Group& group) {
    const std::string name = joined_name(group.linears);
    group.weight = join(group.linears, 1, name + ".weight");
    if (group.linears[0]->inputs.size() == 3) group.bias = join(group.linears, 2, name + ".bias");
  }

  void emit(const Group& group) {
    const Node& first = *group.linears[0];
    std::vector<Value> inputs{rewriter_[first.inputs[0]], group.weight};
    if (first.inputs.size() == 3) inputs.push_back(group.bias);
    const Value all = rewriter_.to().add(first.op, std::move(inputs), joined_name(group.linears));
    std::int64_t begin = 0;
    for (const Node* linear : group.linears) {
      const std::int64_t end = begin + graph_.type(linear->results[0]).shape[1];
      rewriter_.map(linear->results[0], rewriter_.to().add(ops::Slice{begin, end}, {all}, linear->name));
      begin = end;
    }
  }

  Rewriter rewriter_;
  const Graph& graph_;
  std::map<std::uint32_t, Group> groups_;  // by the result of their first linear
  std::set<const Node*> swallowed_;
  std::set<std::string> names_;  // of the new leaves
};

}  // namespace

Graph fuse_projections(const Graph& graph) { return Pass(graph).run(); }

}  // namespace cajal
