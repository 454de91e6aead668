#include "models/layers.h"

namespace cajal {

std::int64_t shard(std::int64_t size, int parts, std::string_view what) {
  if (parts < 1 || size % parts != 0)
    fail(ErrorCode::unsupported, what, ": ", size, " cannot be shared evenly by ", parts, " ranks",
         remedy("choose a tensor-parallel degree that divides ", size));
  return size / parts;
}

Value Scope::tensor(const std::string& name, Shape shape, Sharding sharding) const {
  const WeightPiece piece{name, shape, sharding};
  if (!sharding.replicated()) shape[sharding.dim] = shard(shape[sharding.dim], sharding.parts, name);
  return graph_->add_leaf(ops::Parameter{{piece}, 1, ""}, {dtype_, shape, Plain{}}, name);
}

Value rms_norm(Scope s, Value x, float epsilon) {
  return s.op(ops::RmsNorm{epsilon}, {x, s.weight({s.shape_of(x)[-1]})});
}

Value all_reduce(Scope s, Value x) { return s.tp() == 1 ? x : s.op(ops::AllReduce{}, {x}); }

Value column_parallel_linear(Scope s, Value x, std::int64_t out_features, LinearOptions options) {
  const Sharding sharding{.dim = 0, .parts = options.parts ? options.parts : s.tp()};
  std::vector<Value> inputs{x, s.weight({out_features, s.shape_of(x)[-1]}, sharding)};
  if (options.bias) inputs.push_back(s.bias({out_features}, sharding));
  return s.op(ops::Linear{}, std::move(inputs));
}

int row_parallel_sum_parts(std::int64_t in_features, std::int64_t out_features, int tp) {
  constexpr int kParts = 8;  // as many degrees as give the same bits: 1, 2, 4, 8
  constexpr std::int64_t kEnoughOutputs = 2048;
  if (out_features >= kEnoughOutputs) return 1;
  return in_features % (2 * kParts) == 0 && kParts % tp == 0 ? kParts / tp : 1;
}

Value row_parallel_linear(Scope s, Value x, std::int64_t in_features, std::int64_t out_features, bool bias) {
  const Value w = s.weight({out_features, in_features}, {.dim = 1, .parts = s.tp()});
  const ops::Linear linear{row_parallel_sum_parts(in_features, out_features, s.tp())};
  if (!bias) return all_reduce(s, s.op(linear, {x, w}));
  if (s.tp() > 1)
    fail(ErrorCode::unsupported, s.path(), ": a bias after a sum over ranks is not implemented",
         remedy("run this model with --tensor-parallel-size 1"));
  return s.op(linear, {x, w, s.bias({out_features})});
}

Value replicated_linear(Scope s, Value x, std::int64_t out_features) {
  return s.op(ops::Linear{}, {x, s.weight({out_features, s.shape_of(x)[-1]})});
}

}  // namespace cajal
