#pragma once
// The closed set of operations. An op is a plain struct whose members are its attributes; adding one here makes the
// compiler list every place that must learn about it (type rule, text, each backend), because each visits exhaustively.
// An op is as big as the kernel that runs it; rounding points are part of its meaning.
//
// In the shape lines: T token rows of a step, S sequences, B blocks of a sequence, R rows of logits, E experts, K chosen.
// "dt" is the type of the activations. Unless said otherwise an op computes in f32 and rounds once, to dt, at its end.
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tensor/tensor.h"

namespace cajal {

class Graph;

// Which share of a checkpoint tensor a rank keeps. Dimension `dim` of n elements is cut into `parts` shares of
// ceil(n / parts): what the last of them lack are zeros. `parts` may be smaller than the tensor-parallel degree:
// neighbouring ranks then hold the same share. Heads are shared out by a list instead: the dimension consists of units of
// `unit` elements, and the shares, one after the other and all of one length, of those that `units` names; -1 is a unit of
// zeros, and a unit may be in several shares; what the last unit of the dimension lacks are zeros, too.
struct Sharding {
  int dim = -1;  // -1: every rank holds the whole
  int parts = 1;
  std::int64_t unit = 0;  // 0: no list
  std::vector<int> units = {};

  bool replicated() const { return dim < 0 || (parts == 1 && units.empty()); }
  std::int64_t units_per_share() const { return static_cast<std::int64_t>(units.size()) / parts; }
  // Elements of a share of `whole`.
  std::int64_t share(std::int64_t whole) const {
    if (replicated()) return whole;
    return units.empty() ? (whole + parts - 1) / parts : unit * units_per_share();
  }
  bool operator==(const Sharding& other) const {
    if (replicated()) return other.replicated();
    return dim == other.dim && parts == other.parts && unit == other.unit && units == other.units;
  }
};

// Ranks form a grid, rank = expert_rank * tensor_parallel_size + tensor_rank. Collectives are over the ranks of one
// expert_rank, or over all.
enum class RankGroup : std::uint8_t { tensor, world };

// One tensor of the checkpoint, with the checkpoint's shape. Sharding applies to each piece by itself, before they are
// joined: a rank's share of [gate; up] is its share of gate followed by its share of up.
struct WeightPiece {
  std::string name;  // '*' stands for the index when the pieces of a parameter repeat
  Shape shape;
  Sharding sharding;
  bool operator==(const WeightPiece&) const = default;
};

namespace ops {

struct Input {
  std::string name;
};  // () -> declared type; filled by the host before each step
struct State {
  std::string name;
};  // () -> declared type; lives across steps: a KV cache

// () -> declared type: rank's shares of the pieces, one below the other along the rows. Where the pieces' names have a '*'
// they are stacked: the list of pieces is run through for index 0..repeat-1, be that one, and the result has one dimension
// more (experts). A checkpoint that already holds all of it in one tensor may call that `stacked_name`.
// The repeats may be shared out too, in `repeat_parts` runs of ceil(repeat / repeat_parts): the rank's expert_rank says
// which, and what the last of them lack are zeros.
struct Parameter {
  std::vector<WeightPiece> pieces;
  std::int64_t repeat = 1;
  std::string stacked_name;
  int repeat_parts = 1;
  std::int64_t repeats_on_rank() const { return (repeat + repeat_parts - 1) / repeat_parts; }
  bool stacked() const { return repeat > 1 || (!pieces.empty() && pieces[0].name.find('*') != std::string::npos); }
};

// table[V,H], ids[T] -> dt[T,H]. Partial: the table has rows rank * V .. rank * V + V - 1 of all, and what other ranks
// have are zeros here; the sum over the tensor-parallel group is the whole.
struct Embedding {
  bool partial = false;
};

// x[T,K], weight[N,K] (, bias[N]) -> dt[T,N]. The sum over k is made in `sum_parts` equal consecutive parts, each in
// ascending order in f32, and the parts are added as a balanced tree; then the bias; then one rounding. The parts belong
// to the meaning because a row-parallel layer must give the same bits on 1, 2, 4 and 8 ranks. Partial: a rank's part of
// such a sum, without bias and not rounded, f32[T,N]: all_reduce does the rest.
struct Linear {
  int sum_parts = 1;
  bool partial = false;
};

// x[...,H], weight[H] -> like x: round(x * rsqrt(mean(x^2) + epsilon)) * weight. The mean and the product with it are f32;
// the result is rounded to dt before the weight, and again after it, as Hugging Face's Qwen3RMSNorm does.
struct RmsNorm {
  float epsilon;
};

// positions[T] (, rope_lengths[T]) -> dt[T,2,D/2]: cosines, then sines, of angle f32(inv_freq) * f32(position), each times
// `attention_scaling`, rounded to dt. With original_length > 0 the frequencies depend on the length of the row's request:
// beyond original_length they are `long_inv_freq` (longrope) or, if that is empty, those of the dynamic-NTK base
//   dynamic_base * (dynamic_factor * length / original_length - dynamic_offset) ^ (D / (D - 2)), dynamic_offset = dynamic_factor - 1,
// every operation in f32 but the power, as PyTorch does it with a length that is a tensor.
struct RotaryTable {
  DType dtype = DType::f32;     // dt
  std::vector<float> inv_freq;  // [D/2]
  float attention_scaling = 1;
  std::int64_t original_length = 0;
  std::vector<float> long_inv_freq;
  float dynamic_base = 0, dynamic_factor = 0, dynamic_offset = 0;
};

// x[T,heads,D], table[T,2,D/2] -> like x. Halves rotated ("NeoX"): x1 cos - x2 sin, x2 cos + x1 sin; each product and the
// sum are rounded to dt, as in Hugging Face's apply_rotary_pos_emb.
struct Rope {};

struct SiluMul {};  // gate[T,N], up[T,N] -> [T,N]: round(round(silu(gate)) * up)
struct Add {};      // a, b -> like a
// gate[T,1], x[T,N] -> like x: round(round(sigmoid(gate)) * x), one factor for each row.
struct SigmoidMul {};
struct Slice {
  std::int64_t begin = 0, end = 0;
};  // x[...,N] -> [...,end-begin]: columns of the last dimension
struct Reshape {
  Shape shape;
};  // x -> shape, the same bytes

// cache[blocks,kv_heads,block_size,D], x[T,kv_heads,D], slot_mapping[T] -> cache, in place. Slot = block * block_size +
// offset. Rows that carry nothing write to block 0, which no sequence ever owns. A cache may be stored in 8 bits, in groups
// of D: each vector of a head is then rounded by itself, to integers of scale f32(largest magnitude / 127).
struct KvWrite {};

// q[T,heads,D], k_cache, v_cache, block_tables[S,B], seq_indices[T], positions[T] -> [T,heads,D]. Row t sees positions
// max(0, positions[t] - sliding_window + 1) .. positions[t] of its own sequence (all from 0 when sliding_window is 0).
// Scores and probabilities stay in f32. kv head j serves the q heads j * heads / kv_heads onwards. Where the caches are in 8
// bits, so are the vectors of q in scores: products of integers, times both scales; values are integers times their scales.
struct PagedAttention {
  float scale = 1;
  std::int64_t sliding_window = 0;
};

// logits[T,E] (, seq_indices[T]) -> weights dt[T,K], ids i32[T,K]: softmax over all experts in f32, the K largest in
// descending order (the lower id first among equals), divided by their sum if norm_topk_prob, then rounded to dt.
//
// With capacity_factor > 0, and then with seq_indices, an expert takes at most min(n, ceil(n * K * capacity_factor / E)) of
// the n rows that a step has of one sequence; those rows stand together. Who comes first in the order of rows is taken, and
// what is over capacity is dropped before the weights are normalised: its id is -1, its weight 0, and it counts in no sum.
// A row that loses all its choices gets zeros. So what a row gives depends on the rows that its sequence has in the same step.
struct Router {
  int top_k = 1;
  bool norm_topk_prob = false;
  double capacity_factor = 0;  // 0: nothing is dropped
};

// x[T,H], weights[T,K], ids[T,K], gate_up[E,2I,H], down[E,H,I] -> [T,H]. Each chosen expert is
// down(silu(gate(x)) * up(x)), every step rounded to dt as the dense layers' are; its output times its weight, rounded;
// the sum over the choices in their order in f32, rounded once (Transformers 5's grouped_mm path). An id of -1 is no expert.
// `sum_parts` is that of the down projection, as in Linear.
struct MoeExperts {
  int sum_parts = 1;
};

// The same in three ops, for experts of which a rank has a share: ExpertOutputs, AllReduce over the world to f32,
// CombineExperts. Because what is summed over ranks is each choice's output by itself, before anything is rounded or
// weighed, no number of ranks changes a bit that MoeExperts' sum_parts would not.
//
// x[T,H], ids[T,K], gate_up[L,2I,H], down[L,H,I] -> f32[T,K*H]: of each choice what this rank has of its expert's output, a
// part of the sum over I that is not rounded. A rank has L = ceil(num_experts / expert_parts) experts, from
// expert_rank * L on; the outputs of others are zeros.
struct ExpertOutputs {
  std::int64_t num_experts = 1;
  int expert_parts = 1;
  int sum_parts = 1;
  std::int64_t experts_on_rank() const { return (num_experts + expert_parts - 1) / expert_parts; }
};
// outputs f32[T,K*H], weights dt[T,K] -> dt[T,H]: each output rounded to dt, times its weight, rounded; the sum over the
// choices in their order in f32, rounded once.
struct CombineExperts {};

struct GatherRows {};  // x[T,H], rows[R] -> [R,H]

// Collectives. Every rank of the group runs them in one order, with the same shapes and as many rows.

// x[T,N] (, bias[N]) -> dtype[T,N]: the sum over ranks in f32, as a balanced tree in the order of ranks, as the parts of
// Linear are added; then the bias; then one rounding.
struct AllReduce {
  RankGroup group = RankGroup::tensor;
  DType dtype = DType::f32;
};
// x -> dimension `dim` times ranks: the shares of the group's ranks, one after the other.
struct AllGather {
  int dim = 0, ranks = 1;
  RankGroup group = RankGroup::tensor;
};
// x -> dimension `dim` divided by ranks: this rank's share of the sum that AllReduce makes, rounded once, to x's type.
struct ReduceScatter {
  int dim = 0, ranks = 1;
  RankGroup group = RankGroup::tensor;
};
// x[T,ranks*N] -> like x: the r-th N columns go to rank r; those that rank r sent are the r-th of the result.
struct AllToAll {
  int ranks = 1;
  RankGroup group = RankGroup::tensor;
};

// Operations that a backend runs as one. The body is the meaning and the reference: its inputs are this node's inputs in
// order, its outputs this node's results. A backend without a kernel for the whole runs the body.
struct Region {
  std::string kind;  // the name of the kernel list: "add_rms_norm"
  std::shared_ptr<const Graph> body;
};

}  // namespace ops

using Op =
    std::variant<ops::Input, ops::State, ops::Parameter, ops::Embedding, ops::Linear, ops::RmsNorm, ops::RotaryTable,
                 ops::Rope, ops::SiluMul, ops::Add, ops::Slice, ops::Reshape, ops::KvWrite, ops::PagedAttention,
                 ops::Router, ops::MoeExperts, ops::GatherRows, ops::AllReduce, ops::AllGather, ops::ReduceScatter,
                 ops::AllToAll, ops::Region, ops::SigmoidMul, ops::ExpertOutputs, ops::CombineExperts>;

// Whether a tensor of this shape can be shared out so.
bool can_share(const Sharding& sharding, const Shape& shape);

const char* op_name(const Op& op);
// Which input of an op is experts' gate_up, with their down behind it; -1 if it has none.
int expert_weights_input(const Op& op);
bool is_leaf(const Op& op);  // input, state, parameter: made of no other value

template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

}  // namespace cajal
