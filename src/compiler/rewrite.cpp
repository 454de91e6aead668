#include "compiler/rewrite.h"

#include <algorithm>

namespace cajal {

Rewriter::Rewriter(const Graph& from) : from_(from), map_(from.num_values()), users_(from.num_values()) {
  for (std::uint32_t n = 0; n < from.nodes().size(); ++n)
    for (const Value v : from.node(n).inputs)
      if (users_[v.id].empty() || users_[v.id].back() != n) users_[v.id].push_back(n);
}

void Rewriter::copy_leaves() {
  for (const Node& node : from_.nodes())
    if (is_leaf(node.op)) copy(node);
}

void Rewriter::copy(const Node& node) {
  if (is_leaf(node.op)) {
    if (!mapped(node.results[0])) map(node.results[0], to_.add_leaf(node.op, from_.type(node.results[0]), node.name));
    return;
  }
  const auto results = to_.add_multi(node.op, (*this)(node.inputs), node.name);
  for (std::size_t i = 0; i < results.size(); ++i) map(node.results[i], results[i]);
}

Value Rewriter::operator[](Value old) const {
  CAJAL_CHECK(map_[old.id].has_value(), "a pass lost %", old.id, " of ", from_.producer_node(old).name);
  return *map_[old.id];
}

std::vector<Value> Rewriter::operator()(std::span<const Value> old) const {
  std::vector<Value> values;
  for (const Value v : old) values.push_back((*this)[v]);
  return values;
}

Graph Rewriter::finish() {
  to_.set_outputs((*this)(from_.outputs()));
  verify(to_);
  return std::move(to_);
}

bool Rewriter::is_output(Value old) const {
  const auto outputs = from_.outputs();
  return std::find(outputs.begin(), outputs.end(), old) != outputs.end();
}

const Node* Rewriter::only_user(Value old) const {
  if (is_output(old) || users_[old.id].size() != 1) return nullptr;
  return &from_.node(users_[old.id][0]);
}

}  // namespace cajal
