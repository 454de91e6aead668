#pragma once
// The words that model files are written in: the layers every decoder shares, under the names vLLM and NxD give them.
// Each declares its weights where it uses them, so there is no constructor to keep in step with a forward function.
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/graph.h"

namespace cajal {

struct Parallelism {
  int tensor_parallel_size = 1;
  int expert_parallel_size = 1;
};

// Columns of a row that are rounded together when a weight is quantised, of the weights that sum over what ranks share out;
// 1: each by itself. Ranks have whole groups of them, and so the integers and the scales of one rank.
struct ColumnGroups {
  std::int64_t attention = 1, mlp = 1, experts = 1;
};

// A place in the module tree, spelled as the checkpoint spells it: Scope("model") / "layers" / 0 / "self_attn".
class Scope {
 public:
  Scope(Graph& graph, Parallelism parallel, DType dtype, std::string path = {})
      : graph_(&graph), parallel_(parallel), dtype_(dtype), path_(std::move(path)) {}

  Scope operator/(std::string_view child) const {
    return {*graph_, parallel_, dtype_, path_.empty() ? std::string(child) : path_ + "." + std::string(child)};
  }
  Scope operator/(int index) const { return *this / std::string_view(std::to_string(index)); }

  Graph& graph() const { return *graph_; }
  DType dtype() const { return dtype_; }
  int tp() const { return parallel_.tensor_parallel_size; }
  int ep() const { return parallel_.expert_parallel_size; }
  int world() const { return tp() * ep(); }
  const std::string& path() const { return path_; }

  // Declares "<path>.weight" (or .bias). `shape` is the checkpoint's; the value has this rank's share of it.
  Value weight(Shape shape, Sharding sharding = {}) const { return tensor(path_ + ".weight", shape, sharding); }
  Value bias(Shape shape, Sharding sharding = {}) const { return tensor(path_ + ".bias", shape, sharding); }
  Value tensor(const std::string& name, Shape shape, Sharding sharding = {}) const;

  Value op(Op op, std::vector<Value> inputs) const { return graph_->add(std::move(op), std::move(inputs), path_); }
  const Shape& shape_of(Value v) const { return graph_->type(v).shape; }

 private:
  Graph* graph_;
  Parallelism parallel_;
  DType dtype_;
  std::string path_;
};

Value rms_norm(Scope s, Value x, float epsilon);
// Sums over the ranks of a group, if it has several, and rounds to the scope's type.
Value all_reduce(Scope s, Value x, RankGroup group = RankGroup::tensor);

struct LinearOptions {
  bool bias = false;
  // Who has which of the features that are shared out. Absent: all ranks, as many each; what a degree does not divide is
  // padded with zeros.
  std::optional<Sharding> sharding = {};
};
// Rows of the weight are shared out: each rank computes its own output features.
Value column_parallel_linear(Scope s, Value x, std::int64_t out_features, LinearOptions options = {});
// Columns of the weight are shared out: each rank holds part of the sum, which all ranks then have whole. x has the rank's
// share of `in_features`.
Value row_parallel_linear(Scope s, Value x, std::int64_t in_features, std::int64_t out_features,
                          LinearOptions options = {});
Value replicated_linear(Scope s, Value x, std::int64_t out_features);

// How an embedding's table is shared out. If a head reads it too (tied): by the vocabulary, as heads are. Else by columns,
// since gathering rows is less to do than a sum, where every rank gets whole groups of any quantisation.
Sharding embedding_sharding(std::int64_t hidden_size, bool tied, int tp);
// Rows of the table for `ids`, whole on every rank.
Value parallel_embedding(Scope s, Value weight, Sharding sharding, Value ids);
// x[R,H] times a weight of which each rank has its share of the vocabulary: logits[R,vocab_size], gathered.
Value parallel_lm_head(Scope s, Value x, Value weight, std::int64_t vocab_size);

// ops::Linear's sum_parts for a rank's `in_features` of a row-parallel weight: eight parts over all ranks, added as a
// balanced tree, so that no degree that divides eight changes a bit; and on a GPU the multiprocessors can share a sum for
// one row. Targets for which it costs more than it gives say so (merge_sum_parts in compiler/passes.h).
int row_parallel_sum_parts(std::int64_t in_features, int tp);

// Who has which of `features` that are computed in shares and then summed over: rows of what makes them (dim 0), columns of
// what sums (dim 1). Equal runs where that leaves groups of `group` whole. Else runs of whole groups, cut where one rank's
// sum_parts are and padded with zeros to one length, so that every part of the sum has the terms that it has on one rank.
Sharding share_features(int dim, std::int64_t features, std::int64_t group, int tp);
// Whether every rank's columns are whole groups of those of one rank, or zeros.
bool keeps_groups(const Sharding& columns, std::int64_t whole, std::int64_t group);

inline Value reshape(Scope s, Value x, Shape shape) { return s.op(ops::Reshape{shape}, {x}); }
inline Value add(Scope s, Value a, Value b) { return s.op(ops::Add{}, {a, b}); }

}  // namespace cajal
