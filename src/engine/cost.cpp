#include "engine/cost.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace cajal {

std::int64_t StepShape::num_tokens() const {
  std::int64_t tokens = 0;
  for (const SequenceRows& s : sequences) tokens += s.rows;
  return tokens;
}

StepShape uniform_step(std::int64_t num_seqs, SequenceRows each, std::int64_t logits_per_seq) {
  return {.sequences = std::vector<SequenceRows>(static_cast<std::size_t>(num_seqs), each),
          .num_logits = num_seqs * logits_per_seq};
}

Cost& Cost::operator+=(const Cost& other) {
  linear_flops += other.linear_flops;
  quantized_flops += other.quantized_flops;
  attention_flops += other.attention_flops;
  weight_bytes += other.weight_bytes;
  kv_read_bytes += other.kv_read_bytes;
  kv_written_bytes += other.kv_written_bytes;
  activation_bytes += other.activation_bytes;
  return *this;
}

namespace {

// Positions that the rows of a sequence see, summed over the rows: row p sees min(p + 1, window).
std::int64_t positions_seen(const SequenceRows& s, std::int64_t window) {
  const std::int64_t whole = window == 0 ? s.rows : std::clamp<std::int64_t>(window - s.before, 0, s.rows);
  return whole * s.before + whole * (whole + 1) / 2 + (s.rows - whole) * window;
}

// Positions before the step that some row sees: those that the first row does.
std::int64_t cached_positions_seen(const SequenceRows& s, std::int64_t window) {
  return window == 0 ? s.before : std::min(s.before, window - 1);
}

double bytes_of(const TensorType& type) { return static_cast<double>(type.bytes()); }

// Visits the nodes of a graph, and of the bodies of its regions.
class Costing {
 public:
  Costing(const Graph& graph, const StepShape& step)
      : graph_(graph), step_(step), rows_(graph.num_values()), weight_(graph.num_values()) {
    const std::int64_t tokens = step.num_tokens();
    for (const Node& node : graph.nodes()) {
      if (!is_leaf(node.op)) continue;
      rows_[node.results[0].id] = tokens;
      if (std::holds_alternative<ops::Parameter>(node.op)) weight_[node.results[0].id] = node.results[0].id + 1;
    }
    for (const Node& node : graph.nodes())
      if (std::holds_alternative<ops::GatherRows>(node.op)) rows_[node.inputs[1].id] = step.num_logits;
  }

  void run() {
    for (const Node& node : graph_.nodes()) {
      costs.emplace_back();
      if (is_leaf(node.op)) continue;
      node_ = &node;
      rows_now_ = rows_[node.inputs[row_input(node.op)].id];
      for (const Value v : node.results) rows_[v.id] = rows_now_;
      std::visit(*this, node.op);
      add_activations();
    }
  }

  std::vector<Cost> costs;                          // by node
  std::map<std::uint32_t, double> bytes_of_weight;  // by parameter: what the step needs of it

  void operator()(const ops::Input&) {}
  void operator()(const ops::State&) {}
  void operator()(const ops::Parameter&) {}
  void operator()(const ops::Embedding&) {
    const auto vocabulary = static_cast<double>(type(0).shape[0]);
    read_weight(0, std::min(rows(), vocabulary) / vocabulary);
  }
  void operator()(const ops::Linear&) {
    const Shape& w = type(1).shape;
    add_linear_flops(2 * rows() * static_cast<double>(w[0]) * static_cast<double>(w[1]), type(1));
    const bool chosen = step_.choosing_bytes && !graph_.outputs().empty() && graph_.outputs()[0] == node_->results[0];
    const double share = chosen ? static_cast<double>(*step_.choosing_bytes) / bytes_of(type(1)) : 1;
    for (std::size_t i = 1; i < node_->inputs.size(); ++i) read_weight(i, share);
  }
  void operator()(const ops::RmsNorm&) { read_weight(1, 1); }
  void operator()(const ops::RotaryTable&) {}
  void operator()(const ops::Rope&) {}
  void operator()(const ops::SiluMul&) {}
  void operator()(const ops::Add&) {}
  void operator()(const ops::SigmoidMul&) {}
  void operator()(const ops::Slice&) {}
  void operator()(const ops::Reshape&) {}
  void operator()(const ops::KvWrite&) { costs.back().kv_written_bytes += rows() * kv_row_bytes(type(0)); }
  void operator()(const ops::PagedAttention& op) {
    const Shape& q = type(0).shape;
    double seen = 0, read = 0;
    for (const SequenceRows& s : step_.sequences) {
      seen += static_cast<double>(positions_seen(s, op.sliding_window));
      read += static_cast<double>(cached_positions_seen(s, op.sliding_window));
    }
    costs.back().attention_flops += 4 * seen * static_cast<double>(q[1] * q[2]);
    costs.back().kv_read_bytes += read * (kv_row_bytes(type(1)) + kv_row_bytes(type(2)));
  }
  void operator()(const ops::Router&) {}
  void operator()(const ops::MoeExperts&) {
    add_experts(3, static_cast<double>(type(2).shape[1]), static_cast<double>(type(4).shape[0]));
  }
  void operator()(const ops::ExpertOutputs& op) {
    add_experts(2, static_cast<double>(type(1).shape[1]), static_cast<double>(op.num_experts));
  }
  void operator()(const ops::CombineExperts&) {}
  void operator()(const ops::GatherRows&) {}
  void operator()(const ops::AllReduce&) {}
  void operator()(const ops::AllGather&) {}
  void operator()(const ops::ReduceScatter&) {}
  void operator()(const ops::AllToAll&) {}
  void operator()(const ops::Region& op) {
    Costing body(*op.body, step_);
    for (std::size_t i = 0; i < node_->inputs.size(); ++i) {
      const Value inner = op.body->node(static_cast<std::uint32_t>(i)).results[0], outer = node_->inputs[i];
      body.rows_[inner.id] = rows_[outer.id];
      body.weight_[inner.id] = weight_[outer.id];
    }
    body.run();
    for (Cost cost : body.costs) {
      cost.activation_bytes = 0;  // what stays inside a region need never be memory
      costs.back() += cost;
    }
    for (const auto& [weight, bytes] : body.bytes_of_weight) need_weight(weight, bytes);
  }

 private:
  // The input whose rows an op runs over.
  static std::size_t row_input(const Op& op) {
    return std::holds_alternative<ops::Embedding>(op) || std::holds_alternative<ops::KvWrite>(op) ||
                   std::holds_alternative<ops::GatherRows>(op)
               ? 1
               : 0;
  }
  double rows() const { return static_cast<double>(rows_now_); }
  const TensorType& type(std::size_t input) const { return graph_.type(node_->inputs[input]); }

  void add_linear_flops(double flops, const TensorType& weight) {
    costs.back().linear_flops += flops;
    if (weight.quantized()) costs.back().quantized_flops += flops;
  }

  // Of `all` experts each row chooses some; those that are here stand in input i and i + 1.
  void add_experts(std::size_t i, double chosen, double all) {
    const Shape &gate_up = type(i).shape, &down = type(i + 1).shape;
    const double here = rows() * chosen * static_cast<double>(down[0]) / all;
    add_linear_flops(2 * here * static_cast<double>(gate_up[1] * gate_up[2] + down[1] * down[2]), type(i + 1));
    const double share_used = 1 - std::pow(1 - chosen / all, rows());
    read_weight(i, share_used);
    read_weight(i + 1, share_used);
  }

  // One position of a layer's keys, or values.
  static double kv_row_bytes(const TensorType& cache) {
    TensorType vector{cache.dtype, {1, cache.shape[3]}};
    if (const Quantized* q = cache.quantized()) {
      vector.storage = *q;
      std::get<Quantized>(vector.storage).tile_rows = 1;
    }
    return static_cast<double>(cache.shape[1]) * static_cast<double>(vector.bytes());
  }

  // A step without rows runs nothing and reads nothing.
  void read_weight(std::size_t input, double share) {
    if (rows_now_ == 0) return;
    const double bytes = bytes_of(type(input)) * share;
    costs.back().weight_bytes += bytes;
    need_weight(weight_[node_->inputs[input].id], bytes);
  }
  void need_weight(std::uint32_t weight, double bytes) {
    double& needed = bytes_of_weight[weight];
    needed = std::max(needed, bytes);
  }

  double row_bytes(Value v) const {
    const TensorType& t = graph_.type(v);
    return t.shape.dynamic() || t.shape[0] == 0 ? 0 : bytes_of(t) / static_cast<double>(t.shape[0]);
  }
  void add_activations() {
    if (std::holds_alternative<ops::Reshape>(node_->op)) return;
    double bytes = 0;
    for (const Value v : node_->results) bytes += rows() * row_bytes(v);
    if (std::holds_alternative<ops::Slice>(node_->op) || std::holds_alternative<ops::GatherRows>(node_->op)) {
      bytes *= 2;  // they read what they write
    } else {
      for (const Value v : node_->inputs)
        if (!is_leaf(graph_.producer_node(v).op)) bytes += static_cast<double>(rows_[v.id]) * row_bytes(v);
    }
    costs.back().activation_bytes += bytes;
  }

  const Graph& graph_;
  const StepShape& step_;
  std::vector<std::int64_t> rows_;     // by value: how many of its rows the step has
  std::vector<std::uint32_t> weight_;  // by value: 1 + the id of the parameter that it is, in the outermost graph
  const Node* node_ = nullptr;
  std::int64_t rows_now_ = 0;  // of the node
};

}  // namespace

std::vector<Cost> node_costs(const Graph& graph, const StepShape& step) {
  Costing costing(graph, step);
  costing.run();
  return std::move(costing.costs);
}

Cost step_cost(const Graph& graph, const StepShape& step) {
  Costing costing(graph, step);
  costing.run();
  Cost sum;
  for (const Cost& cost : costing.costs) sum += cost;
  sum.weight_bytes = 0;
  for (const auto& [weight, bytes] : costing.bytes_of_weight) sum.weight_bytes += bytes;
  return sum;
}

double Ceilings::flops_per_s(DType dtype) const {
  switch (dtype) {
    case DType::bf16: return std::max(bf16_flops_per_s, f32_flops_per_s);
    case DType::f16:
    case DType::f32: return f32_flops_per_s;
    case DType::i8:
    case DType::u8: return int8_ops_per_s;
    case DType::f8_e4m3:
    case DType::i32:
    case DType::i64:
    case DType::boolean: return 0;
  }
  return 0;
}

Ceilings max(const Ceilings& a, const Ceilings& b) {
  return {std::max(a.read_bytes_per_s, b.read_bytes_per_s), std::max(a.f32_flops_per_s, b.f32_flops_per_s),
          std::max(a.bf16_flops_per_s, b.bf16_flops_per_s), std::max(a.int8_ops_per_s, b.int8_ops_per_s)};
}

double floor_seconds(const Cost& cost, const Ceilings& ceilings, DType dtype) {
  const double peak = ceilings.flops_per_s(dtype), int8_peak = std::max(peak, ceilings.flops_per_s(DType::i8));
  const double memory = ceilings.read_bytes_per_s > 0 ? cost.bytes() / ceilings.read_bytes_per_s : 0;
  double multiplying = peak > 0 ? (cost.flops() - cost.quantized_flops) / peak : 0;
  if (int8_peak > 0) multiplying += cost.quantized_flops / int8_peak;
  return std::max(memory, multiplying);
}

}  // namespace cajal
