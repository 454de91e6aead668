#include "models/mlp.h"

#include <algorithm>

namespace cajal {
namespace {

bool has_experts(const Qwen3Config& c) {
  return c.num_experts > 0 && std::find(c.sparse_layer.begin(), c.sparse_layer.end(), true) != c.sparse_layer.end();
}

// Every expert's matrices, stacked: one file may hold them apart, another in one tensor `stacked_name`.
Value expert_weights(Scope s, std::int64_t num_experts, const std::vector<std::string>& projections, WeightPiece piece,
                     const std::string& stacked_name) {
  ops::Parameter parameter;
  for (const std::string& projection : projections)
    parameter.pieces.push_back({(s / "*" / projection).path() + ".weight", piece.shape, piece.sharding});
  parameter.repeat = num_experts;
  parameter.repeat_parts = s.ep();
  parameter.stacked_name = (s / stacked_name).path();
  piece.shape[piece.sharding.dim] = piece.sharding.share(piece.shape[piece.sharding.dim]);
  const Shape stacked{parameter.repeats_on_rank(), piece.shape[0] * static_cast<std::int64_t>(projections.size()),
                      piece.shape[1]};
  const std::string name = parameter.stacked_name;
  return s.graph().add_leaf(std::move(parameter), {s.dtype(), stacked, Plain{}}, name);
}

Value routed_experts(Scope s, const Qwen3Config& c, const ExpertCapacity& capacity, std::int64_t column_group,
                     Value x) {
  const std::int64_t inner = c.moe_intermediate_size;
  const Scope gate = s / "gate", experts = s / "experts";
  std::vector<Value> router_inputs{replicated_linear(gate, x, c.num_experts)};
  if (capacity.factor > 0) router_inputs.push_back(capacity.seq_indices);
  const auto chosen = s.graph().add_multi(ops::Router{c.num_experts_per_tok, c.norm_topk_prob, capacity.factor},
                                          std::move(router_inputs), gate.path());
  const WeightPiece rows{"", {inner, c.hidden_size}, share_features(0, inner, column_group, s.tp())};
  const WeightPiece columns{"", {c.hidden_size, inner}, share_features(1, inner, column_group, s.tp())};
  const Value gate_up = expert_weights(experts, c.num_experts, {"gate_proj", "up_proj"}, rows, "gate_up_proj");
  const Value down = expert_weights(experts, c.num_experts, {"down_proj"}, columns, "down_proj");
  const int parts = row_parallel_sum_parts(s.shape_of(down)[2], s.tp());
  if (s.world() == 1) return experts.op(ops::MoeExperts{parts}, {x, chosen[0], chosen[1], gate_up, down});
  const ops::ExpertOutputs op{c.num_experts, s.ep(), parts};
  const Value mine = experts.op(op, {x, chosen[1], gate_up, down});
  const Value outputs = experts.op(ops::AllReduce{RankGroup::world, DType::f32}, {mine});
  return experts.op(ops::CombineExperts{}, {outputs, chosen[0]});
}

}  // namespace

Value mlp(Scope s, std::int64_t intermediate_size, std::int64_t column_group, Value x) {
  const LinearOptions rows{.sharding = share_features(0, intermediate_size, column_group, s.tp())};
  const Value gate = column_parallel_linear(s / "gate_proj", x, intermediate_size, rows);
  const Value up = column_parallel_linear(s / "up_proj", x, intermediate_size, rows);
  return row_parallel_linear(s / "down_proj", s.op(ops::SiluMul{}, {gate, up}), intermediate_size, s.shape_of(x)[-1],
                             {.sharding = share_features(1, intermediate_size, column_group, s.tp())});
}

Value sparse_moe_block(Scope s, const Qwen3Config& c, const ExpertCapacity& capacity, const ColumnGroups& groups,
                       Value x) {
  const Value routed = routed_experts(s, c, capacity, groups.experts, x);
  if (c.shared_expert_intermediate_size == 0) return routed;
  const Value shared = mlp(s / "shared_expert", c.shared_expert_intermediate_size, groups.mlp, x);
  const Scope gate = s / "shared_expert_gate";
  return add(s, routed, gate.op(ops::SigmoidMul{}, {replicated_linear(gate, x, 1), shared}));
}

double effective_capacity_factor(const Qwen3Config& c, double factor) {
  if (!(factor > 0)) fail(ErrorCode::invalid_argument, "capacity_factor is ", factor, ", expected a number above 0");
  if (!has_experts(c))
    fail(ErrorCode::invalid_argument, "capacity_factor is ", factor, ", and the model has no experts",
         remedy("leave it out"));
  return factor * c.num_experts_per_tok >= c.num_experts ? 0 : factor;
}

void check_expert_parallel_size(const Qwen3Config& c, int size) {
  if (size < 1) fail(ErrorCode::invalid_argument, "expert_parallel_size is ", size, ", expected 1 or more");
  if (has_experts(c) && size > c.num_experts)
    fail(ErrorCode::invalid_argument, "expert_parallel_size is ", size, ", and the model has ", c.num_experts,
         " experts", remedy("choose at most ", c.num_experts));
}

}  // namespace cajal
