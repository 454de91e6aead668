#pragma once
// A graph is a list of nodes in an order in which they can run; a node reads values and makes values. Caches are values
// too: a write takes a cache and gives the cache after it, in the same memory.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.h"

namespace cajal {

struct Value {
  std::uint32_t id = 0;
  bool operator==(const Value&) const = default;
};

struct Node {
  Op op;
  std::vector<Value> inputs;
  std::vector<Value> results;
  std::string name;  // for people: "model.layers.0.self_attn.q_proj"
};

class Graph {
 public:
  // Adds a node whose result types follow from the op's rule; a violated rule throws Error naming the node.
  std::vector<Value> add_multi(Op op, std::vector<Value> inputs, std::string name);
  Value add(Op op, std::vector<Value> inputs, std::string name);  // of an op with one result
  // Adds an input, state or parameter. Its dimensions are at least 1; the first of a state (or of an input, for a state
  // that goes into a region's body) may be dynamic. Throws Error naming the node.
  Value add_leaf(Op op, TensorType type, std::string name);

  const Node& node(std::uint32_t index) const { return nodes_[index]; }
  std::span<const Node> nodes() const { return nodes_; }
  std::size_t num_values() const { return values_.size(); }
  const TensorType& type(Value v) const { return values_[v.id].type; }
  std::uint32_t producer(Value v) const { return values_[v.id].node; }
  const Node& producer_node(Value v) const { return nodes_[producer(v)]; }
  void set_outputs(std::vector<Value> outputs) { outputs_ = std::move(outputs); }
  std::span<const Value> outputs() const { return outputs_; }

  std::optional<Value> find_leaf(std::string_view name) const;  // an input, state or parameter by its name

 private:
  struct ValueInfo {
    TensorType type;
    std::uint32_t node;
  };
  std::vector<Node> nodes_;
  std::vector<ValueInfo> values_;
  std::vector<Value> outputs_;
};

// No tensor is larger than this (64 TiB), so that sums of sizes never come near what 64 bits hold.
constexpr std::size_t kMaxTensorBytes = std::size_t{1} << 46;

// The types of an op's results, from its inputs' types; throws Error with the rule that is broken. Not for leaves.
std::vector<TensorType> infer_types(const Op& op, std::span<const TensorType> inputs);

// For result `result` of a node: the input whose memory it is (a cache after a write, a reshaped value), if any.
std::optional<int> aliased_input(const Op& op, int result);
// Whether that memory is written on the way: the result is the cache after a write, not another view of the same bytes.
bool overwrites_input(const Op& op, int result);

// Checks everything that add() cannot see or that a pass or a file could have broken: order, types, names that tell leaves
// apart and stay on their line, that only states are written and no value of one is read or returned after it was
// overwritten, bodies of regions. Throws Error naming the node.
void verify(const Graph& graph);

// One line a node; stable, so that it can be compared and stored; parse_graph reads it back to an equal graph.
std::string to_text(const Graph& graph);
// Error(data_loss) names `what` and the line, or the node where the graph as a whole does not verify.
Graph parse_graph(std::string_view text, std::string_view what);

}  // namespace cajal
