#include "models/layers.h"

namespace cajal {

Value Scope::tensor(const std::string& name, Shape shape, Sharding sharding) const {
  const WeightPiece piece{name, shape, sharding};
  if (!sharding.replicated()) shape[sharding.dim] = sharding.share(shape[sharding.dim]);
  return graph_->add_leaf(ops::Parameter{{piece}, 1, ""}, {dtype_, shape, Plain{}}, name);
}

Value rms_norm(Scope s, Value x, float epsilon) {
  return s.op(ops::RmsNorm{epsilon}, {x, s.weight({s.shape_of(x)[-1]})});
}

Value all_reduce(Scope s, Value x, RankGroup group) {
  const int ranks = group == RankGroup::tensor ? s.tp() : s.world();
  return ranks == 1 ? x : s.op(ops::AllReduce{group, s.dtype()}, {x});
}

Value column_parallel_linear(Scope s, Value x, std::int64_t out_features, LinearOptions options) {
  const Sharding sharding = options.sharding.value_or(Sharding{.dim = 0, .parts = s.tp()});
  std::vector<Value> inputs{x, s.weight({out_features, s.shape_of(x)[-1]}, sharding)};
  if (options.bias) inputs.push_back(s.bias({out_features}, sharding));
  return s.op(ops::Linear{}, std::move(inputs));
}

int row_parallel_sum_parts(std::int64_t in_features, int tp) {
  constexpr int kParts = 8;  // as many degrees as give the same bits: 1, 2, 4, 8
  if (kParts % tp != 0) return 1;
  const int parts = kParts / tp;
  return in_features % (2 * parts) == 0 ? parts : 1;
}

Value row_parallel_linear(Scope s, Value x, std::int64_t in_features, std::int64_t out_features,
                          LinearOptions options) {
  const Sharding sharding = options.sharding.value_or(Sharding{.dim = 1, .parts = s.tp()});
  const Value w = s.weight({out_features, in_features}, sharding);
  const int parts = row_parallel_sum_parts(s.shape_of(x)[-1], s.tp());
  std::vector<Value> bias;  // after the sum, and once
  if (options.bias) bias.push_back(s.bias({out_features}));
  std::vector<Value> inputs{x, w};
  if (s.tp() == 1) {
    inputs.insert(inputs.end(), bias.begin(), bias.end());
    return s.op(ops::Linear{parts}, std::move(inputs));
  }
  std::vector<Value> summed{s.op(ops::Linear{parts, true}, std::move(inputs))};
  summed.insert(summed.end(), bias.begin(), bias.end());
  return s.op(ops::AllReduce{RankGroup::tensor, s.dtype()}, std::move(summed));
}

Value replicated_linear(Scope s, Value x, std::int64_t out_features) {
  return s.op(ops::Linear{}, {x, s.weight({out_features, s.shape_of(x)[-1]})});
}

Sharding embedding_sharding(std::int64_t hidden_size, bool tied, int tp) {
  constexpr std::int64_t kWholeGroups = 128;
  const bool by_columns = !tied && hidden_size % (kWholeGroups * tp) == 0;
  return {.dim = by_columns ? 1 : 0, .parts = tp};
}

Value parallel_embedding(Scope s, Value weight, Sharding sharding, Value ids) {
  if (sharding.replicated()) return s.op(ops::Embedding{}, {weight, ids});
  if (sharding.dim == 0) return all_reduce(s, s.op(ops::Embedding{.partial = true}, {weight, ids}));
  return s.op(ops::AllGather{1, sharding.parts}, {s.op(ops::Embedding{}, {weight, ids})});
}

Value parallel_lm_head(Scope s, Value x, Value weight, std::int64_t vocab_size) {
  const Value logits = s.op(ops::Linear{}, {x, weight});
  if (s.tp() == 1) return logits;
  const Value all = s.op(ops::AllGather{1, s.tp()}, {logits});
  return s.shape_of(all)[1] == vocab_size ? all : s.op(ops::Slice{0, vocab_size}, {all});
}

}  // namespace cajal
