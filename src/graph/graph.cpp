#include "graph/graph.h"

#include <algorithm>
#include <map>

namespace cajal {

const char* op_name(const Op& op) {
  static constexpr const char* kNames[] = {
      "input",       "state",        "parameter",   "embedding",       "linear",
      "rms_norm",    "rotary_table", "rope",        "silu_mul",        "add",
      "slice",       "reshape",      "kv_write",    "paged_attention", "router",
      "moe_experts", "gather_rows",  "all_reduce",  "all_gather",      "reduce_scatter",
      "all_to_all",  "region",       "sigmoid_mul", "expert_outputs",  "combine_experts"};
  static_assert(std::size(kNames) == std::variant_size_v<Op>);
  return kNames[op.index()];
}

int expert_weights_input(const Op& op) {
  if (std::holds_alternative<ops::MoeExperts>(op)) return 3;
  return std::holds_alternative<ops::ExpertOutputs>(op) ? 2 : -1;
}

bool is_leaf(const Op& op) {
  return std::holds_alternative<ops::Input>(op) || std::holds_alternative<ops::State>(op) ||
         std::holds_alternative<ops::Parameter>(op);
}

namespace {

void check_leaf_type(const Op& op, const TensorType& type) {
  bool good = true;
  for (int i = 0; i < type.shape.rank(); ++i) {
    const bool may_vary = i == 0 && !std::holds_alternative<ops::Parameter>(op);
    good = good && (type.shape[i] >= 1 || (may_vary && type.shape[i] == Shape::kDynamic));
  }
  if (!good) fail(ErrorCode::invalid_argument, op_name(op), ": cannot have type ", to_string(type));
  TensorType one = type;
  if (one.shape.dynamic()) one.shape[0] = 1;
  if (one.bytes() > kMaxTensorBytes)
    fail(ErrorCode::invalid_argument, op_name(op), ": ", to_string(type), " is too large");
}

}  // namespace

std::vector<Value> Graph::add_multi(Op op, std::vector<Value> inputs, std::string name) {
  CAJAL_CHECK(!is_leaf(op), name, ": a leaf declares its type");
  std::vector<TensorType> types;
  for (const Value v : inputs) {
    CAJAL_CHECK(v.id < values_.size(), name, ": input %", v.id, " does not exist");
    types.push_back(type(v));
  }
  auto results = with_context(name, [&] { return infer_types(op, types); });
  Node node{std::move(op), std::move(inputs), {}, std::move(name)};
  for (auto& result : results) {
    node.results.push_back({static_cast<std::uint32_t>(values_.size())});
    values_.push_back({std::move(result), static_cast<std::uint32_t>(nodes_.size())});
  }
  nodes_.push_back(std::move(node));
  return nodes_.back().results;
}

Value Graph::add(Op op, std::vector<Value> inputs, std::string name) {
  const auto results = add_multi(std::move(op), std::move(inputs), std::move(name));
  CAJAL_CHECK(results.size() == 1);
  return results[0];
}

Value Graph::add_leaf(Op op, TensorType type, std::string name) {
  CAJAL_CHECK(is_leaf(op), name, ": not a leaf");
  with_context(name, [&] { check_leaf_type(op, type); });
  const Value value{static_cast<std::uint32_t>(values_.size())};
  values_.push_back({std::move(type), static_cast<std::uint32_t>(nodes_.size())});
  nodes_.push_back({std::move(op), {}, {value}, std::move(name)});
  return value;
}

std::optional<Value> Graph::find_leaf(std::string_view name) const {
  for (const Node& node : nodes_)
    if (is_leaf(node.op) && node.name == name) return node.results[0];
  return std::nullopt;
}

namespace {

struct Alias {
  int input;
  bool written;
};

std::optional<Alias> find_alias(const Op& op, int result) {
  if (std::holds_alternative<ops::Reshape>(op)) return Alias{0, false};
  if (std::holds_alternative<ops::KvWrite>(op)) return Alias{0, true};
  const auto* region = std::get_if<ops::Region>(&op);
  if (!region) return std::nullopt;
  // Walk back from the body's output to one of its inputs, through values that share memory.
  const Graph& body = *region->body;
  Value v = body.outputs()[static_cast<std::size_t>(result)];
  for (bool written = false;;) {
    const Node& node = body.producer_node(v);
    if (is_leaf(node.op)) return Alias{static_cast<int>(body.producer(v)), written};  // leaves: the inputs in order
    const auto at = std::find(node.results.begin(), node.results.end(), v) - node.results.begin();
    const auto alias = find_alias(node.op, static_cast<int>(at));
    if (!alias) return std::nullopt;
    written = written || alias->written;
    v = node.inputs[static_cast<std::size_t>(alias->input)];
  }
}

}  // namespace

bool can_share(const Sharding& s, const Shape& shape) {
  if (s.replicated()) return true;
  if (s.dim >= shape.rank() || s.parts < 1) return false;
  if (s.unit == 0 || s.units.empty()) return s.unit == 0 && s.units.empty();
  const std::int64_t whole = shape[s.dim];
  constexpr std::int64_t kLongestGroup = 1024;  // a unit may be more than there is, but not anything
  if (whole < 1 || s.unit < 0 || s.unit > std::max(whole, kLongestGroup)) return false;
  const std::int64_t units = (whole - 1) / s.unit + 1;
  return s.units.size() % static_cast<std::size_t>(s.parts) == 0 &&
         std::all_of(s.units.begin(), s.units.end(), [units](int u) { return u >= -1 && u < units; });
}

std::optional<int> aliased_input(const Op& op, int result) {
  const auto alias = find_alias(op, result);
  return alias ? std::optional(alias->input) : std::nullopt;
}

bool overwrites_input(const Op& op, int result) {
  const auto alias = find_alias(op, result);
  return alias && alias->written;
}

namespace {

class Verifier {
 public:
  Verifier(const Graph& graph, bool is_body)
      : graph_(graph), is_body_(is_body), root_(graph.num_values()), version_(graph.num_values()) {}

  void run() {
    std::vector<std::string> leaf_names;
    for (std::uint32_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.node(n);
      with_context(detail::join("node ", n, " (", op_name(node.op), " ", node.name, ")"), [&] { check(n, node); });
      if (is_leaf(node.op)) leaf_names.push_back(node.name);
    }
    std::sort(leaf_names.begin(), leaf_names.end());
    const auto twin = std::adjacent_find(leaf_names.begin(), leaf_names.end());
    if (twin != leaf_names.end()) broken("two leaves are called '", *twin, "'");
    for (const Value v : graph_.outputs()) {
      if (v.id >= graph_.num_values()) broken("output %", v.id, " does not exist");
      if (overwritten_at(v)) broken("output %", v.id, " was overwritten");
    }
    if (is_body_) check_writes_are_returned();
  }

 private:
  template <class... Parts>
  [[noreturn]] static void broken(const Parts&... parts) {
    fail(ErrorCode::data_loss, "graph is broken: ", parts...);
  }

  void check(std::uint32_t n, const Node& node) {
    if (node.name.find('\n') != std::string::npos) broken("a name of several lines");
    std::vector<TensorType> types;
    for (const Value v : node.inputs) {
      if (v.id >= graph_.num_values() || graph_.producer(v) >= n) broken("%", v.id, " is read before it is made");
      if (overwritten_at(v)) broken("%", v.id, " is read after it was overwritten");
      types.push_back(graph_.type(v));
    }
    for (std::size_t r = 0; r < node.results.size(); ++r)
      if (graph_.producer(node.results[r]) != n) broken("%", node.results[r].id, " is made twice");
    if (is_leaf(node.op)) {
      check_leaf(node);
      root_[node.results[0].id] = node.results[0].id;
      return;
    }
    const auto expected = infer_types(node.op, types);
    if (expected.size() != node.results.size()) broken(node.results.size(), " results, expected ", expected.size());
    for (std::size_t r = 0; r < expected.size(); ++r) {
      const TensorType& found = graph_.type(node.results[r]);
      if (!(found == expected[r])) broken("result is ", to_string(found), ", expected ", to_string(expected[r]));
      follow_memory(node, r);
    }
    if (const auto* region = std::get_if<ops::Region>(&node.op)) Verifier(*region->body, true).run();
  }

  void check_leaf(const Node& node) const {
    if (!node.inputs.empty() || node.results.size() != 1) broken("a leaf has no inputs and one result");
    // The host finds inputs and states by the op's name, and people by the node's.
    if (const auto* input = std::get_if<ops::Input>(&node.op)) {
      if (input->name != node.name) broken("the input is called '", input->name, "'");
      const TensorType& type = graph_.type(node.results[0]);
      if (!is_body_ && type.shape.dynamic()) broken("an input has a fixed shape");
      if (!is_body_ && !type.plain())
        broken("an input is stored plainly");  // a region's may be a parameter of its graph
    }
    if (const auto* state = std::get_if<ops::State>(&node.op))
      if (state->name != node.name) broken("the state is called '", state->name, "'");
    if (const auto* parameter = std::get_if<ops::Parameter>(&node.op)) check_parameter(*parameter);
  }

  static void check_parameter(const ops::Parameter& parameter) {
    if (parameter.pieces.empty() || parameter.repeat < 1) broken("a parameter made of nothing");
    constexpr auto kMost = static_cast<std::int64_t>(kMaxTensorBytes);
    if (parameter.repeat > kMost) broken("a parameter made of ", parameter.repeat, " matrices");
    if (parameter.repeat_parts < 1 || (parameter.repeat_parts > 1 && !parameter.stacked()))
      broken("matrices shared out in ", parameter.repeat_parts, " parts of ", parameter.repeat);
    for (const auto& [name, shape, sharding] : parameter.pieces) {
      for (const std::int64_t d : shape)
        if (d < 1) broken("a piece of shape ", to_string(shape));
      if (sharding.replicated()) continue;
      if (!can_share(sharding, shape))
        broken(name, to_string(shape), " cannot be cut into ", sharding.parts, " parts along dimension ", sharding.dim);
    }
  }

  // Writing a cache makes its older values unreadable; reshaping makes nothing unreadable.
  void follow_memory(const Node& node, std::size_t r) {
    const auto alias = find_alias(node.op, static_cast<int>(r));
    const std::uint32_t result = node.results[r].id;
    root_[result] = alias ? root_[node.inputs[static_cast<std::size_t>(alias->input)].id] : result;
    version_[result] = alias ? version_[node.inputs[static_cast<std::size_t>(alias->input)].id] : 0;
    if (!alias || !alias->written) return;
    const Op& written = graph_.producer_node({root_[result]}).op;
    if (!(is_body_ ? std::holds_alternative<ops::Input>(written) : std::holds_alternative<ops::State>(written)))
      broken("writes into ", op_name(written), " %", root_[result], ", which is no state");
    version_[result] = ++current_[root_[result]];
  }

  // Whoever reads a region sees what it writes by its results alone.
  void check_writes_are_returned() const {
    for (const auto& [root, version] : current_) {
      const auto outputs = graph_.outputs();
      const bool returned =
          std::any_of(outputs.begin(), outputs.end(), [&, r = root](Value v) { return root_[v.id] == r; });
      if (!returned) broken("the body writes into %", root, " and does not return it");
    }
  }
  bool overwritten_at(Value v) const {
    const auto it = current_.find(root_[v.id]);
    return it != current_.end() && version_[v.id] != it->second;
  }

  const Graph& graph_;
  bool is_body_;                        // of a region: what is written comes in as an input
  std::vector<std::uint32_t> root_;     // by value: the value whose memory it lies in
  std::vector<std::uint32_t> version_;  // by value: how often that memory had been written when it was made
  std::map<std::uint32_t, std::uint32_t> current_;
};

}  // namespace

void verify(const Graph& graph) { Verifier(graph, false).run(); }

}  // namespace cajal
