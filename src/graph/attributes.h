#pragma once
// The attributes of each op by name, for whoever treats all ops alike: the text form, comparison, statistics.
#include "graph/op.h"

namespace cajal {

// Calls f("name", member) for every attribute. Works for const and mutable ops; regions' bodies are not attributes.

#define CAJAL_ATTRIBUTES(OpType, ...)                   \
  template <class F>                                    \
  void visit_attributes(const ops::OpType& op, F&& f) { \
    __VA_ARGS__;                                        \
    static_cast<void>(op), static_cast<void>(f);        \
  }                                                     \
  template <class F>                                    \
  void visit_attributes(ops::OpType& op, F&& f) {       \
    __VA_ARGS__;                                        \
    static_cast<void>(op), static_cast<void>(f);        \
  }

CAJAL_ATTRIBUTES(Input, f("name", op.name))
CAJAL_ATTRIBUTES(State, f("name", op.name))
CAJAL_ATTRIBUTES(Parameter, f("pieces", op.pieces); f("repeat", op.repeat); f("stacked_name", op.stacked_name);
                 f("repeat_parts", op.repeat_parts))
CAJAL_ATTRIBUTES(Embedding, f("partial", op.partial))
CAJAL_ATTRIBUTES(Linear, f("sum_parts", op.sum_parts); f("partial", op.partial))
CAJAL_ATTRIBUTES(RmsNorm, f("epsilon", op.epsilon))
CAJAL_ATTRIBUTES(RotaryTable, f("dtype", op.dtype); f("inv_freq", op.inv_freq);
                 f("attention_scaling", op.attention_scaling); f("original_length", op.original_length);
                 f("long_inv_freq", op.long_inv_freq); f("dynamic_base", op.dynamic_base);
                 f("dynamic_factor", op.dynamic_factor); f("dynamic_offset", op.dynamic_offset))
CAJAL_ATTRIBUTES(Rope)
CAJAL_ATTRIBUTES(SiluMul)
CAJAL_ATTRIBUTES(Add)
CAJAL_ATTRIBUTES(SigmoidMul)
CAJAL_ATTRIBUTES(Slice, f("begin", op.begin); f("end", op.end))
CAJAL_ATTRIBUTES(Reshape, f("shape", op.shape))
CAJAL_ATTRIBUTES(KvWrite)
CAJAL_ATTRIBUTES(PagedAttention, f("scale", op.scale); f("sliding_window", op.sliding_window))
CAJAL_ATTRIBUTES(Router, f("top_k", op.top_k); f("norm_topk_prob", op.norm_topk_prob);
                 f("capacity_factor", op.capacity_factor))
CAJAL_ATTRIBUTES(MoeExperts, f("sum_parts", op.sum_parts))
CAJAL_ATTRIBUTES(ExpertOutputs, f("num_experts", op.num_experts); f("expert_parts", op.expert_parts);
                 f("sum_parts", op.sum_parts))
CAJAL_ATTRIBUTES(CombineExperts)
CAJAL_ATTRIBUTES(GatherRows)
CAJAL_ATTRIBUTES(AllReduce, f("group", op.group); f("dtype", op.dtype))
CAJAL_ATTRIBUTES(AllGather, f("dim", op.dim); f("ranks", op.ranks); f("group", op.group))
CAJAL_ATTRIBUTES(ReduceScatter, f("dim", op.dim); f("ranks", op.ranks); f("group", op.group))
CAJAL_ATTRIBUTES(AllToAll, f("ranks", op.ranks); f("group", op.group))
CAJAL_ATTRIBUTES(Region, f("kind", op.kind))

#undef CAJAL_ATTRIBUTES

}  // namespace cajal
