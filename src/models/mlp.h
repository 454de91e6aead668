#pragma once
// The second half of a decoder layer: a dense MLP, or a mixture of experts as Qwen3-MoE and Qwen2-MoE have it.
#include "models/layers.h"
#include "models/qwen3_config.h"

namespace cajal {

// x[T,H] -> [T,H]: down(silu(gate(x)) * up(x)), its inner columns shared out over the tensor-parallel group in groups of
// `column_group` that stay together.
Value mlp(Scope s, std::int64_t intermediate_size, std::int64_t column_group, Value x);

// How many rows an expert takes; see ops::Router.
struct ExpertCapacity {
  double factor = 0;  // 0: as many as choose it
  Value seq_indices{};
};

// x[T,H] -> [T,H]. The experts are shared out over the expert-parallel groups in runs of ceil(experts / groups), each
// expert's inner columns over the tensor-parallel group; router and what else is small are on every rank, and so are all
// rows. With several ranks one all_reduce over the world makes the outputs whole. The shared expert of Qwen2-MoE is an mlp().
Value sparse_moe_block(Scope s, const Qwen3Config& config, const ExpertCapacity& capacity, const ColumnGroups& groups,
                       Value x);

// The capacity factor that changes anything: 0 where no expert could be full. Error(invalid_argument) for one that is not
// above 0, and for a model without experts.
double effective_capacity_factor(const Qwen3Config& config, double factor);

// Error(invalid_argument) with the numbers where a group of ranks would have no expert. Without any experts the groups do
// the same.
void check_expert_parallel_size(const Qwen3Config& config, int expert_parallel_size);

}  // namespace cajal
