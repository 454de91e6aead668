#include "models/layers.h"

#include "base/checked.h"

namespace cajal {
namespace {

constexpr int kSumParts = 8;  // of a sum over ranks: as many degrees as give the same bits, 1, 2, 4 and 8

// The first group of columns of a part of a sum, as kernels cut it (backends/cpu/kernels/quant_blocks.h).
std::int64_t first_group(std::int64_t part, std::int64_t columns, std::int64_t parts, std::int64_t group) {
  return ceil_div(part * columns, parts * group);
}

}  // namespace

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
  if (kSumParts % tp != 0) return 1;
  const int parts = kSumParts / tp;
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

bool keeps_groups(const Sharding& columns, std::int64_t whole, std::int64_t group) {
  if (columns.replicated() || group == 1) return true;
  if (columns.units.empty()) return whole % columns.parts == 0 && whole / columns.parts % group == 0;
  const std::int64_t share = columns.share(whole);
  const auto source_of = [&](std::int64_t at) {  // of a column of all shares; -1: it is zero
    const std::int64_t unit = columns.units[static_cast<std::size_t>(at / columns.unit)];
    const std::int64_t source = unit * columns.unit + at % columns.unit;
    return unit < 0 || source >= whole ? -1 : source;
  };
  for (std::int64_t first = 0; first < share * columns.parts; first += share)
    for (std::int64_t at = 0; at < share; ++at) {
      const std::int64_t source = source_of(first + at), in_group = at % group;
      const std::int64_t begin = source_of(first + at - in_group);
      if (begin >= 0 && begin % group != 0) return false;
      const std::int64_t expected = begin < 0 || begin + in_group >= whole ? -1 : begin + in_group;
      if (source != expected) return false;
      const bool cut = in_group + 1 < group && at + 1 == share;  // the share ends inside of a group
      if (cut && source >= 0 && source + 1 < whole) return false;
    }
  return true;
}

Sharding share_features(int dim, std::int64_t features, std::int64_t group, int tp) {
  if (tp == 1 || group == 1 || features % (group * tp) == 0) return {.dim = dim, .parts = tp};
  const int parts = kSumParts % tp == 0 ? kSumParts / tp : 1;  // of a rank
  const auto begin = [&](int part) { return first_group(part, features, std::int64_t{parts} * tp, group); };
  const auto room = [&](int part, std::int64_t groups) {
    return first_group(part + 1, groups * group, parts, group) - first_group(part, groups * group, parts, group);
  };
  const auto holds = [&](std::int64_t groups) {
    for (int part = 0; part < parts * tp; ++part)
      if (begin(part + 1) - begin(part) > room(part % parts, groups)) return false;
    return true;
  };
  std::int64_t groups = 1;  // of a rank
  while (!holds(groups)) ++groups;
  Sharding sharding{.dim = dim, .parts = tp, .unit = group};
  for (int part = 0; part < parts * tp; ++part)
    for (std::int64_t i = 0; i < room(part % parts, groups); ++i) {
      const std::int64_t unit = begin(part) + i;
      sharding.units.push_back(unit < begin(part + 1) ? static_cast<int>(unit) : -1);
    }
  return sharding;
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
