#pragma once
// Graphs of random ops over the rows of one step, such as passes, plans and backends must cope with: projections of one
// input with and without biases, sums and norms, heads, attention with caches, experts.
#include <random>
#include <string>
#include <vector>

#include "graph/bucket.h"
#include "graph/graph.h"

namespace cajal::test {

struct RandomGraphOptions {
  DType dtype = DType::f32;
  Bucket bucket{.num_tokens = 6, .num_seqs = 3, .max_blocks_per_seq = 2, .num_logits = 3};
  int num_ops = 12;
  bool experts = true;
};

class RandomGraph {
 public:
  static constexpr std::int64_t kVocabSize = 40, kHidden = 32, kHeadDim = 8, kHeads = 2, kKvHeads = 1;

  RandomGraph(unsigned seed, const RandomGraphOptions& options) : random_(seed), o_(options) {
    const Bucket& b = o_.bucket;
    ids_ = input("input_ids", {b.num_tokens});
    positions_ = input("positions", {b.num_tokens});
    slots_ = input("slot_mapping", {b.num_tokens});
    seqs_ = input("seq_indices", {b.num_tokens});
    tables_ = input("block_tables", {b.num_seqs, b.max_blocks_per_seq});
    wanted_ = input("logits_indices", {b.num_logits});
    rope_ = graph_.add(ops::RotaryTable{.dtype = o_.dtype, .inv_freq = {1, 0.5f, 0.25f, 0.125f}}, {positions_},
                       "rotary_emb");
    const Value table = weight("embed_tokens.weight", {kVocabSize, kHidden});
    rows_.push_back(graph_.add(ops::Embedding{}, {table, ids_}, "embed_tokens"));
    for (int i = 0; i < o_.num_ops; ++i) add_some_op();
    const Value last = graph_.add(ops::GatherRows{}, {any(), wanted_}, "gather_last");
    std::vector<Value> outputs{linear(norm(last), 24, path() + "lm_head")};
    if (chance(2)) outputs.push_back(any());
    if (chance(4)) outputs.push_back(outputs.back());
    graph_.set_outputs(std::move(outputs));
  }

  const Graph& graph() const { return graph_; }

 private:
  std::uint32_t below(std::size_t n) { return static_cast<std::uint32_t>(random_() % n); }
  bool chance(std::size_t one_in) { return below(one_in) == 0; }
  Value any() { return rows_[below(rows_.size())]; }
  std::int64_t columns(Value v) const { return graph_.type(v).shape[-1]; }
  std::string path() { return "layers." + std::to_string(count_++) + "."; }

  Value input(const char* name, Shape shape) {
    return graph_.add_leaf(ops::Input{name}, {DType::i32, shape, Plain{}}, name);
  }
  Value weight(const std::string& name, Shape shape) {
    return graph_.add_leaf(ops::Parameter{{{name, shape, {}}}, 1, ""}, {o_.dtype, shape, Plain{}}, name);
  }
  Value state(const std::string& name) {
    const Shape shape{Shape::kDynamic, kKvHeads, kKvBlockSize, kHeadDim};
    return graph_.add_leaf(ops::State{name}, {o_.dtype, shape, Plain{}}, name);
  }
  int sum_parts(std::int64_t k) {
    const int parts = 1 << below(4);
    return k % (2 * parts) == 0 ? parts : 1;
  }
  Value linear(Value x, std::int64_t n, const std::string& name, bool bias = false, int parts = 1) {
    std::vector<Value> inputs{x, weight(name + ".weight", {n, columns(x)})};
    if (bias) inputs.push_back(weight(name + ".bias", {n}));
    return graph_.add(ops::Linear{parts}, inputs, name);
  }
  Value norm(Value x) {
    const std::string name = path() + "norm";
    return graph_.add(ops::RmsNorm{1e-6f}, {x, weight(name + ".weight", {columns(x)})}, name);
  }
  Value slice(Value x, std::int64_t begin, std::int64_t end) {
    return graph_.add(ops::Slice{begin, end}, {x}, path() + "slice");
  }

  void add_some_op() {
    switch (below(o_.experts ? 8 : 7)) {
      case 0: return projections();
      case 1: return add_and_norm();
      case 2: return gated();
      case 3: return attention();
      case 4: return heads();
      case 5: rows_.push_back(norm(any())); return;
      case 6: cut(); return;
      default: return experts();
    }
  }

  void projections() {
    const Value x = any();
    const std::string at = path();
    const bool bias = chance(3);
    const int parts = sum_parts(columns(x));
    const char* names[] = {"q_proj", "k_proj", "v_proj"};
    for (std::size_t i = 0, n = 1 + below(3); i < n; ++i) {
      const bool odd_one = chance(6);
      rows_.push_back(linear(x, kHidden * (1 + below(2)), at + names[i], odd_one ? !bias : bias, odd_one ? 1 : parts));
    }
  }
  void add_and_norm() {
    const Value a = any();
    Value b = any();
    if (columns(a) != columns(b)) b = a;
    const Value sum = graph_.add(ops::Add{}, {a, b}, path() + "add");
    rows_.push_back(norm(sum));
    if (!chance(4)) rows_.push_back(sum);
  }
  void gated() {
    const Value x = linear(any(), 2 * kHidden, path() + "gate_up_proj");
    const std::int64_t middle = chance(5) ? kHidden / 2 : kHidden;
    const Value gate = slice(x, 0, middle),
                up = slice(x, chance(5) ? 0 : middle, chance(5) ? 2 * middle : kHidden + middle);
    if (chance(4)) {
      const Value factor = linear(x, 1, path() + "shared_expert_gate");
      rows_.push_back(graph_.add(ops::SigmoidMul{}, {factor, gate}, path() + "sigmoid_mul"));
    }
    if (columns(gate) == columns(up)) rows_.push_back(graph_.add(ops::SiluMul{}, {gate, up}, path() + "silu_mul"));
    if (chance(4)) rows_.push_back(gate);
  }
  Value as_heads(Value x, std::int64_t n) {
    return graph_.add(ops::Reshape{{o_.bucket.num_tokens, n, kHeadDim}}, {x}, path() + "heads");
  }
  Value as_rows(Value x) {
    const Shape& s = graph_.type(x).shape;
    return graph_.add(ops::Reshape{{s[0], s[1] * s[2]}}, {x}, path() + "rows");
  }
  void attention() {
    const std::int64_t q_end = kHeads * kHeadDim, k_end = q_end + kKvHeads * kHeadDim,
                       v_end = k_end + kKvHeads * kHeadDim;
    const Value qkv = linear(any(), v_end, path() + "qkv_proj");
    const Value q = as_heads(slice(qkv, 0, q_end), kHeads), k = as_heads(slice(qkv, q_end, k_end), kKvHeads);
    const Value v = as_heads(chance(4) ? slice(qkv, 0, kHeadDim) : slice(qkv, k_end, v_end), kKvHeads);
    const std::string at = path();
    const Value q_rotated = graph_.add(ops::Rope{}, {norm(q), rope_}, at + "q_rope");
    const Value k_rotated = graph_.add(ops::Rope{}, {norm(k), rope_}, at + "k_rope");
    const Value k_cache = graph_.add(ops::KvWrite{}, {state(at + "k_cache"), k_rotated, slots_}, at + "k_write");
    const Value v_cache = graph_.add(ops::KvWrite{}, {state(at + "v_cache"), v, slots_}, at + "v_write");
    if (chance(6)) return;  // written, and read by later steps only
    const Value out = graph_.add(ops::PagedAttention{0.35f, chance(3) ? 3 : 0},
                                 {q_rotated, k_cache, v_cache, tables_, seqs_, positions_}, at + "attention");
    if (chance(4)) rows_.push_back(as_rows(q_rotated));
    rows_.push_back(as_rows(out));
  }
  void heads() {
    const Value from = any();
    if (columns(from) < 2 * kHeadDim) return;
    const Value x = as_heads(slice(from, 0, 2 * kHeadDim), 2);
    Value y = chance(2) ? norm(x) : graph_.add(ops::Add{}, {x, x}, path() + "add_heads");
    if (chance(2)) y = graph_.add(ops::SiluMul{}, {y, x}, path() + "silu_mul_heads");
    if (chance(2)) {
      const Value half = graph_.add(ops::Slice{2, 6}, {y}, path() + "slice_heads");
      rows_.push_back(as_rows(half));
    }
    rows_.push_back(as_rows(y));
  }
  void cut() {
    const Value x = any();
    const std::int64_t begin = 2 * below(4);
    if (columns(x) >= begin + 16) rows_.push_back(slice(x, begin, begin + 16));
  }
  void experts() {
    constexpr std::int64_t kExperts = 4, kInner = 16;
    const Value x = any();
    const std::string at = path();
    const auto chosen = graph_.add_multi(ops::Router{2, chance(2)}, {linear(x, kExperts, at + "gate")}, at + "gate");
    const auto stack = [&](const std::string& name, std::int64_t rows, std::int64_t inner) {
      return graph_.add_leaf(ops::Parameter{{{at + "experts.*." + name, {rows, inner}, {}}}, kExperts, ""},
                             {o_.dtype, {kExperts, rows, inner}, Plain{}}, at + name);
    };
    const Value gate_up = stack("gate_up_proj", 2 * kInner, columns(x)), down = stack("down_proj", columns(x), kInner);
    rows_.push_back(
        graph_.add(ops::MoeExperts{sum_parts(kInner)}, {x, chosen[0], chosen[1], gate_up, down}, at + "experts"));
    if (!chance(3)) return;
    const Value outputs =
        graph_.add(ops::ExpertOutputs{kExperts, 1, sum_parts(kInner)}, {x, chosen[1], gate_up, down}, at + "outputs");
    rows_.push_back(graph_.add(ops::CombineExperts{}, {outputs, chosen[0]}, at + "combined"));
  }

  std::mt19937 random_;
  RandomGraphOptions o_;
  Graph graph_;
  Value ids_, positions_, slots_, seqs_, tables_, wanted_, rope_;
  std::vector<Value> rows_;  // [T, any]
  int count_ = 0;
};

inline Graph random_graph(unsigned seed, const RandomGraphOptions& options = {}) {
  return RandomGraph(seed, options).graph();
}

}  // namespace cajal::test
