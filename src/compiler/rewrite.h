#pragma once
// Copies a graph node by node into a new one; a pass steps in where it wants something else.
#include <optional>
#include <vector>

#include "graph/graph.h"

namespace cajal {

class Rewriter {
 public:
  explicit Rewriter(const Graph& from);

  const Graph& from() const { return from_; }
  Graph& to() { return to_; }

  // Leaves first: every pass keeps them in front, so that a new node may use any of them anywhere.
  void copy_leaves();
  void copy(const Node& node);  // with the inputs' new values

  Value operator[](Value old) const;  // the new value of an old one, which must have been copied or mapped
  bool mapped(Value old) const { return map_[old.id].has_value(); }
  void map(Value old, Value replacement) { map_[old.id] = replacement; }
  std::vector<Value> operator()(std::span<const Value> old) const;
  Graph finish();  // maps the outputs, verifies

  // Nodes of the old graph that read a value, outputs not counted.
  std::span<const std::uint32_t> users(Value old) const { return users_[old.id]; }
  bool is_output(Value old) const;
  // The only reader of `old`, if there is exactly one and it is no output.
  const Node* only_user(Value old) const;

 private:
  const Graph& from_;
  Graph to_;
  std::vector<std::optional<Value>> map_;
  std::vector<std::vector<std::uint32_t>> users_;
};

}  // namespace cajal
