// The type rule of every op: what its inputs must be, and what its results then are.
#include <algorithm>

#include "base/checked.h"
#include "graph/graph.h"

namespace cajal {
namespace {

using Types = std::vector<TensorType>;

class Rules {
 public:
  Rules(const Op& op, std::span<const TensorType> in) : op_(op), in_(in) {}

  Types operator()(const ops::Input&) const { return leaf(); }
  Types operator()(const ops::State&) const { return leaf(); }
  Types operator()(const ops::Parameter&) const { return leaf(); }

  Types operator()(const ops::Embedding&) const {
    inputs(2);
    rank(0, 2), rank(1, 1), integers(1);
    return {{in_[0].dtype, {in_[1].shape[0], in_[0].shape[1]}, Plain{}}};
  }
  Types operator()(const ops::Linear& op) const {
    inputs(2, 3);
    rank(0, 2), rank(1, 2), same_dtype(0, 1), plain(0);
    require(in_[0].shape[1] == in_[1].shape[1], "x[T,K] times weight[N,K]");
    if (in_.size() == 3) {
      rank(2, 1), same_dtype(0, 2), plain(2);
      require(in_[2].shape[0] == in_[1].shape[0], "bias[N] for weight[N,K]");
    }
    sum_parts(op.sum_parts, in_[1].shape[1]);
    require(!op.partial || in_.size() == 2, "no bias for a part of a sum");
    return {{op.partial ? DType::f32 : in_[0].dtype, {in_[0].shape[0], in_[1].shape[0]}, Plain{}}};
  }
  Types operator()(const ops::RmsNorm& op) const {
    inputs(2);
    rows_of_columns(0), plain(1), rank(1, 1), same_dtype(0, 1);
    require(in_[0].shape[-1] == in_[1].shape[0], "weight[H] against x[...,H]");
    require(op.epsilon > 0, "epsilon above 0");
    return {in_[0]};
  }
  Types operator()(const ops::RotaryTable& op) const {
    inputs(1, 2);
    rank(0, 1), integers(0);
    require(!op.inv_freq.empty(), "at least one frequency");
    require(op.long_inv_freq.empty() || op.long_inv_freq.size() == op.inv_freq.size(),
            "as many long frequencies as short");
    require((op.original_length > 0) == (in_.size() == 2), "lengths exactly where the frequencies depend on them");
    if (in_.size() == 2) rank(1, 1), integers(1), same_rows(0, 1);
    return {{op.dtype, {in_[0].shape[0], 2, static_cast<std::int64_t>(op.inv_freq.size())}, Plain{}}};
  }
  Types operator()(const ops::Rope&) const {
    inputs(2);
    rank(0, 3), rank(1, 3), plain(0), plain(1), same_dtype(0, 1), same_rows(0, 1);
    require(in_[1].shape[1] == 2 && in_[0].shape[2] % 2 == 0 && in_[1].shape[2] == in_[0].shape[2] / 2,
            "x[T,heads,D] with table[T,2,D/2]");
    return {in_[0]};
  }
  Types operator()(const ops::SiluMul&) const {
    inputs(2);
    rows_of_columns(0);
    require(in_[0] == in_[1], "gate and up alike");
    return {in_[0]};
  }
  Types operator()(const ops::Add&) const {
    inputs(2);
    rows_of_columns(0);
    require(in_[0] == in_[1], "operands alike");
    return {in_[0]};
  }
  Types operator()(const ops::SigmoidMul&) const {
    inputs(2);
    rank(0, 2), rank(1, 2), plain(0), plain(1), same_dtype(0, 1), same_rows(0, 1);
    require(in_[0].shape[1] == 1, "gate[T,1] for x[T,N]");
    return {in_[1]};
  }
  Types operator()(const ops::Slice& op) const {
    inputs(1);
    rows_of_columns(0);
    require(0 <= op.begin && op.begin < op.end && op.end <= in_[0].shape[-1],
            detail::join("0 <= begin (", op.begin, ") < end (", op.end, ") <= columns"));
    TensorType result = in_[0];
    result.shape[-1] = op.end - op.begin;
    return {result};
  }
  Types operator()(const ops::Reshape& op) const {
    inputs(1);
    plain(0);
    require(std::all_of(op.shape.begin(), op.shape.end(), [](std::int64_t d) { return d >= 1; }) &&
                !in_[0].shape.dynamic() && op.shape.elements() == in_[0].shape.elements(),
            detail::join("as many elements as ", to_string(op.shape)));
    return {{in_[0].dtype, op.shape, Plain{}}};
  }
  Types operator()(const ops::KvWrite&) const {
    inputs(3);
    rank(0, 4), rank(1, 3), rank(2, 1), same_dtype(0, 1), plain(1), integers(2), same_rows(1, 2);
    require(in_[0].shape[1] == in_[1].shape[1] && in_[0].shape[3] == in_[1].shape[2],
            "cache[blocks,kv_heads,block_size,D] with x[T,kv_heads,D]");
    return {in_[0]};
  }
  Types operator()(const ops::PagedAttention& op) const {
    inputs(6);
    rank(0, 3), rank(1, 4), rank(2, 4), rank(3, 2), rank(4, 1), rank(5, 1);
    plain(0), same_dtype(0, 1), same_dtype(0, 2), integers(3), integers(4), integers(5), same_rows(0, 4),
        same_rows(0, 5);
    require(in_[1].shape == in_[2].shape && in_[1].shape[3] == in_[0].shape[2],
            "q[T,heads,D] with caches [..,..,..,D]");
    require(in_[1].shape[1] > 0 && in_[0].shape[1] % in_[1].shape[1] == 0, "heads a multiple of kv_heads");
    require(op.sliding_window >= 0, "a window of 0 (none) or more");
    return {in_[0]};
  }
  Types operator()(const ops::Router& op) const {
    inputs(1, 2);
    rank(0, 2), plain(0);
    require(op.capacity_factor >= 0 && (op.capacity_factor > 0) == (in_.size() == 2),
            "seq_indices exactly where experts have a capacity");
    if (in_.size() == 2) rank(1, 1), integers(1), same_rows(0, 1);
    require(op.top_k >= 1 && op.top_k <= in_[0].shape[1], detail::join("1 <= top_k (", op.top_k, ") <= experts"));
    const Shape chosen{in_[0].shape[0], op.top_k};
    return {{in_[0].dtype, chosen, Plain{}}, {DType::i32, chosen, Plain{}}};
  }
  Types operator()(const ops::MoeExperts& op) const {
    inputs(5);
    rank(0, 2), rank(1, 2), rank(2, 2);
    plain(0), plain(1), integers(2), same_dtype(0, 1), same_rows(0, 1), same_rows(0, 2);
    experts(3);
    require(in_[1].shape == in_[2].shape && in_[1].shape[1] <= in_[4].shape[0], "a weight for every chosen expert");
    sum_parts(op.sum_parts, in_[4].shape[2]);
    return {in_[0]};
  }
  Types operator()(const ops::ExpertOutputs& op) const {
    inputs(4);
    rank(0, 2), rank(1, 2), plain(0), integers(1), same_rows(0, 1);
    experts(2);
    const Shape &x = in_[0].shape, &ids = in_[1].shape;
    constexpr std::int64_t kMost = 1 << 20;  // so that a file's numbers add up
    require(op.num_experts >= 1 && op.num_experts <= kMost && op.expert_parts >= 1 && op.expert_parts <= kMost &&
                in_[3].shape[0] == op.experts_on_rank(),
            detail::join("the rank's share of ", op.num_experts, " experts in ", op.expert_parts, " parts"));
    require(ids[1] <= op.num_experts, "at most as many choices as experts");
    sum_parts(op.sum_parts, in_[3].shape[2]);
    return {{DType::f32, {x[0], checked_mul(ids[1], x[1], "outputs of experts")}, Plain{}}};
  }
  Types operator()(const ops::CombineExperts&) const {
    inputs(2);
    rank(0, 2), rank(1, 2), plain(0), plain(1), same_rows(0, 1), activations(1);
    require(in_[0].dtype == DType::f32 && in_[1].shape[1] >= 1 && in_[0].shape[1] % in_[1].shape[1] == 0,
            "outputs f32[T,K*H] with weights[T,K]");
    return {{in_[1].dtype, {in_[0].shape[0], in_[0].shape[1] / in_[1].shape[1]}, Plain{}}};
  }
  Types operator()(const ops::GatherRows&) const {
    inputs(2);
    rank(0, 2), rank(1, 1), plain(0), integers(1);
    return {{in_[0].dtype, {in_[1].shape[0], in_[0].shape[1]}, Plain{}}};
  }
  Types operator()(const ops::AllReduce& op) const {
    inputs(1, 2);
    rank(0, 2), activations(0);
    require(is_number(op.dtype), "a result of bf16, f16 or f32");
    if (in_.size() == 2) {
      rank(1, 1), plain(1);
      require(in_[1].shape[0] == in_[0].shape[1] && in_[1].dtype == op.dtype,
              "bias[N] of the result's type for x[T,N]");
    }
    return {{op.dtype, in_[0].shape, Plain{}}};
  }
  Types operator()(const ops::AllGather& op) const { return scaled(op.dim, op.ranks, 1); }
  Types operator()(const ops::ReduceScatter& op) const { return scaled(op.dim, 1, op.ranks); }
  Types operator()(const ops::AllToAll& op) const {
    inputs(1);
    rank(0, 2), plain(0);
    require(op.ranks >= 1 && in_[0].shape[1] % op.ranks == 0,
            detail::join("columns that the ranks (", op.ranks, ") share evenly"));
    return {in_[0]};
  }

  Types operator()(const ops::Region& op) const {
    CAJAL_CHECK(op.body != nullptr);
    const Graph& body = *op.body;
    std::size_t leaves = 0;
    for (const Node& node : body.nodes()) {
      if (!is_leaf(node.op)) continue;
      require(std::holds_alternative<ops::Input>(node.op) && body.producer(node.results[0]) == leaves,
              "a body begins with its inputs and has no other leaves");
      require(leaves < in_.size() && body.type(node.results[0]) == in_[leaves],
              "inputs of the types that the body declares");
      ++leaves;
    }
    inputs(leaves);
    Types results;
    for (const Value v : body.outputs()) results.push_back(body.type(v));
    require(!results.empty(), "a body with outputs");
    return results;
  }

 private:
  [[noreturn]] void broken(std::string_view rule) const {
    std::string found;
    for (const TensorType& t : in_) found += (found.empty() ? "" : ", ") + to_string(t);
    fail(ErrorCode::invalid_argument, op_name(op_), ": expected ", rule, ", got (", found, ")");
  }
  void require(bool ok, std::string_view rule) const {
    if (!ok) broken(rule);
  }
  void inputs(std::size_t least, std::size_t most = 0) const {
    if (in_.size() < least || in_.size() > std::max(least, most)) broken(detail::join(least, " inputs"));
  }
  void rank(std::size_t i, int r) const {
    if (in_[i].shape.rank() != r) broken(detail::join("rank ", r, " for input ", i));
  }
  void plain(std::size_t i) const {
    if (!in_[i].plain()) broken(detail::join("plain storage for input ", i));
  }
  void integers(std::size_t i) const {
    if (in_[i].dtype != DType::i32 || !in_[i].plain()) broken(detail::join("plain i32 for input ", i));
  }
  static bool is_number(DType t) { return t == DType::bf16 || t == DType::f16 || t == DType::f32; }
  void activations(std::size_t i) const {
    plain(i);
    if (!is_number(in_[i].dtype)) broken(detail::join("bf16, f16 or f32 for input ", i));
  }
  // What works row by row: the first dimension counts rows of the step, the last columns.
  void rows_of_columns(std::size_t i) const {
    plain(i);
    if (in_[i].shape.rank() < 2) broken(detail::join("at least two dimensions for input ", i));
  }
  void same_dtype(std::size_t a, std::size_t b) const {
    if (in_[a].dtype != in_[b].dtype) broken(detail::join("one element type for inputs ", a, " and ", b));
  }
  void same_rows(std::size_t a, std::size_t b) const {
    if (in_[a].shape[0] != in_[b].shape[0]) broken(detail::join("as many rows in input ", a, " as in input ", b));
  }
  // Inputs i and i + 1, for the x of input 0.
  void experts(std::size_t i) const {
    rank(i, 3), rank(i + 1, 3), same_dtype(0, i), same_dtype(0, i + 1);
    const Shape &x = in_[0].shape, &gate_up = in_[i].shape, &down = in_[i + 1].shape;
    require(gate_up[0] == down[0] && gate_up[1] % 2 == 0 && gate_up[1] / 2 == down[2] && gate_up[2] == x[1] &&
                down[1] == x[1],
            "x[T,H], gate_up[E,2I,H], down[E,H,I]");
  }
  void sum_parts(int parts, std::int64_t k) const {
    require(parts >= 1 && parts <= 64 && (parts & (parts - 1)) == 0 && (parts == 1 || k % (2 * parts) == 0),
            detail::join("sum_parts (", parts, ") a power of two that cuts K into equal even parts"));
  }
  Types leaf() const {
    CAJAL_CHECK(false, "a leaf declares its type");
    return {};
  }
  Types scaled(int dim, int times, int divided) const {
    inputs(1);
    plain(0);
    require(dim >= 0 && dim < in_[0].shape.rank() && times >= 1 && divided >= 1 && in_[0].shape[dim] % divided == 0,
            detail::join("a dimension (", dim, ") that the ranks (", std::max(times, divided), ") share evenly"));
    TensorType result = in_[0];
    result.shape[dim] = checked_mul(result.shape[dim] / divided, std::int64_t{times}, "a gathered dimension");
    return {result};
  }

  const Op& op_;
  std::span<const TensorType> in_;
};

}  // namespace

std::vector<TensorType> infer_types(const Op& op, std::span<const TensorType> inputs) {
  std::vector<TensorType> results = std::visit(Rules(op, inputs), op);
  for (std::size_t r = 0; r < results.size(); ++r) {
    if (aliased_input(op, static_cast<int>(r))) continue;
    if (results[r].shape.dynamic())
      fail(ErrorCode::invalid_argument, op_name(op), ": ", to_string(results[r]),
           " would be made anew in each step, in a size that nobody knows");
    if (results[r].bytes() > kMaxTensorBytes)
      fail(ErrorCode::invalid_argument, op_name(op), ": ", to_string(results[r]), " is too large");
  }
  return results;
}

}  // namespace cajal
