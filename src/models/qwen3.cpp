#include "models/qwen3.h"

#include <cmath>

#include "models/head_shares.h"

namespace cajal {
namespace {

// What every layer reads of the step.
struct Step {
  Value slot_mapping, block_tables, seq_indices, positions, rotary_table;
};

HeadShares heads_on_rank(const Qwen3Config& c, int tp) {
  return share_heads(c.num_attention_heads, c.num_key_value_heads, c.head_dim, tp);
}

Value kv_cache(Scope s, const Qwen3Config& c, const char* name) {
  const Shape shape{Shape::kDynamic, heads_on_rank(c, s.tp()).kv_heads, kKvBlockSize, c.head_dim};
  const std::string path = (s / name).path();
  return s.graph().add_leaf(ops::State{path}, {s.dtype(), shape, Plain{}}, path);
}

Value attention(Scope s, const Qwen3Config& c, int layer, const Step& step, Value x) {
  const HeadShares heads = heads_on_rank(c, s.tp());
  const std::int64_t tokens = s.shape_of(x)[0], kv_features = std::int64_t{c.num_key_value_heads} * c.head_dim;
  const std::int64_t q_features = std::int64_t{c.num_attention_heads} * c.head_dim;
  const LinearOptions kv{.bias = c.attention_bias, .sharding = heads.kv};

  Value q = column_parallel_linear(s / "q_proj", x, q_features, {.bias = c.attention_bias, .sharding = heads.q});
  Value k = column_parallel_linear(s / "k_proj", x, kv_features, kv);
  Value v = column_parallel_linear(s / "v_proj", x, kv_features, kv);

  // Qwen3 normalises each head of q and k before the rotation; Qwen2 and Llama do not.
  q = rms_norm(s / "q_norm", reshape(s, q, {tokens, heads.q_heads, c.head_dim}), c.rms_norm_eps);
  k = rms_norm(s / "k_norm", reshape(s, k, {tokens, heads.kv_heads, c.head_dim}), c.rms_norm_eps);
  v = reshape(s, v, {tokens, heads.kv_heads, c.head_dim});
  q = s.op(ops::Rope{}, {q, step.rotary_table});
  k = s.op(ops::Rope{}, {k, step.rotary_table});

  const Value k_cache = s.op(ops::KvWrite{}, {kv_cache(s, c, "k_cache"), k, step.slot_mapping});
  const Value v_cache = s.op(ops::KvWrite{}, {kv_cache(s, c, "v_cache"), v, step.slot_mapping});
  const ops::PagedAttention op{1.0f / std::sqrt(static_cast<float>(c.head_dim)),
                               c.sliding_window[static_cast<std::size_t>(layer)]};
  const Value out = s.op(op, {q, k_cache, v_cache, step.block_tables, step.seq_indices, step.positions});

  return row_parallel_linear(s / "o_proj", reshape(s, out, {tokens, heads.q_heads * c.head_dim}), q_features,
                             c.hidden_size, {.bias = c.attention_bias, .sharding = heads.o});
}

Value mlp(Scope s, const Qwen3Config& c, Value x) {
  const Value gate = column_parallel_linear(s / "gate_proj", x, c.intermediate_size);
  const Value up = column_parallel_linear(s / "up_proj", x, c.intermediate_size);
  return row_parallel_linear(s / "down_proj", s.op(ops::SiluMul{}, {gate, up}), c.intermediate_size, c.hidden_size);
}

// Every expert's matrices, stacked: one file may hold them apart, another in one tensor `stacked_name`.
Value expert_weights(Scope s, const Qwen3Config& c, const std::vector<std::string>& projections, Shape piece,
                     Sharding sharding, const std::string& stacked_name) {
  ops::Parameter parameter;
  for (const std::string& projection : projections)
    parameter.pieces.push_back({(s / "experts" / "*" / projection).path() + ".weight", piece, sharding});
  parameter.repeat = c.num_experts;
  parameter.stacked_name = (s / "experts" / stacked_name).path();
  piece[sharding.dim] = shard(piece[sharding.dim], sharding.parts, parameter.stacked_name);
  const Shape stacked{c.num_experts, piece[0] * static_cast<std::int64_t>(projections.size()), piece[1]};
  const std::string name = parameter.stacked_name;
  return s.graph().add_leaf(std::move(parameter), {s.dtype(), stacked, Plain{}}, name);
}

Value sparse_moe_block(Scope s, const Qwen3Config& c, Value x) {
  const std::int64_t inner = c.moe_intermediate_size;
  const Value logits = replicated_linear(s / "gate", x, c.num_experts);
  const auto chosen =
      s.graph().add_multi(ops::Router{c.num_experts_per_tok, c.norm_topk_prob}, {logits}, (s / "gate").path());
  const Value gate_up = expert_weights(s, c, {"gate_proj", "up_proj"}, {inner, c.hidden_size},
                                       {.dim = 0, .parts = s.tp()}, "gate_up_proj");
  const Value down =
      expert_weights(s, c, {"down_proj"}, {c.hidden_size, inner}, {.dim = 1, .parts = s.tp()}, "down_proj");
  const ops::MoeExperts experts{row_parallel_sum_parts(inner / s.tp(), s.tp())};
  return all_reduce(s, (s / "experts").op(experts, {x, chosen[0], chosen[1], gate_up, down}));
}

Value decoder_layer(Scope s, const Qwen3Config& c, int layer, const Step& step, Value x) {
  Value h = rms_norm(s / "input_layernorm", x, c.rms_norm_eps);
  x = add(s, x, attention(s / "self_attn", c, layer, step, h));
  h = rms_norm(s / "post_attention_layernorm", x, c.rms_norm_eps);
  const bool sparse = c.num_experts > 0 && c.sparse_layer[static_cast<std::size_t>(layer)];
  return add(s, x, sparse ? sparse_moe_block(s / "mlp", c, h) : mlp(s / "mlp", c, h));
}

bool tied(const Qwen3GraphOptions& options) { return options.lm_head_tensor == options.embedding_tensor; }

Value input(Graph& g, const char* name, Shape shape) {
  return g.add_leaf(ops::Input{name}, {DType::i32, shape, Plain{}}, name);
}

}  // namespace

Graph build_qwen3(const Qwen3Config& c, const Qwen3GraphOptions& options) {
  const Bucket& b = options.bucket;
  CAJAL_CHECK(b.num_tokens > 0 && b.num_seqs > 0 && b.max_blocks_per_seq > 0 && b.num_logits > 0);
  CAJAL_CHECK(options.outputs.logits || options.outputs.last_hidden_state, "a graph without an output");
  if (const int tp = options.parallel.tensor_parallel_size; tp < 1)
    fail(ErrorCode::invalid_argument, "tensor_parallel_size is ", tp, ", expected 1 or more");
  if (options.parallel.expert_parallel_size != 1)
    fail(ErrorCode::unsupported, "expert_parallel_size is ", options.parallel.expert_parallel_size,
         ": expert parallelism is not implemented yet");
  Graph g;
  const Scope root(g, options.parallel, options.dtype);
  const Scope model = root / "model";

  const Value ids = input(g, names::kInputIds, {b.num_tokens});
  Step step;
  step.positions = input(g, names::kPositions, {b.num_tokens});
  step.slot_mapping = input(g, names::kSlotMapping, {b.num_tokens});
  step.seq_indices = input(g, names::kSeqIndices, {b.num_tokens});
  step.block_tables = input(g, names::kBlockTables, {b.num_seqs, b.max_blocks_per_seq});
  const Value wanted = input(g, names::kLogitsIndices, {b.num_logits});

  ops::RotaryTable table = rotary_table(c.rope, c.head_dim, c.max_position_embeddings);
  table.dtype = options.dtype;
  std::vector<Value> table_inputs{step.positions};
  if (table.original_length > 0) table_inputs.push_back(input(g, names::kRopeLengths, {b.num_tokens}));
  step.rotary_table = (model / "rotary_emb").op(std::move(table), std::move(table_inputs));

  const Shape table_shape{c.vocab_size, c.hidden_size};
  const Sharding cut = embedding_sharding(c.hidden_size, tied(options), root.tp());
  const Value embedding = root.tensor(options.embedding_tensor, table_shape, cut);
  Value x = parallel_embedding(model / "embed_tokens", embedding, cut, ids);
  for (int i = 0; i < c.num_hidden_layers; ++i) x = decoder_layer(model / "layers" / i, c, i, step, x);

  x = (model / "gather_last").op(ops::GatherRows{}, {x, wanted});
  x = rms_norm(model / "norm", x, c.rms_norm_eps);
  std::vector<Value> outputs;
  if (options.outputs.logits) {
    const Sharding by_vocabulary{.dim = 0, .parts = root.tp()};
    const Value head = tied(options) ? embedding : root.tensor(options.lm_head_tensor, table_shape, by_vocabulary);
    outputs.push_back(parallel_lm_head(root / "lm_head", x, head, c.vocab_size));
  }
  if (options.outputs.last_hidden_state) outputs.push_back(x);
  if (options.outputs.chosen_experts)
    for (const Node& node : g.nodes())
      if (std::holds_alternative<ops::Router>(node.op)) outputs.push_back(node.results[1]);
  g.set_outputs(std::move(outputs));
  return g;
}

std::int64_t kv_bytes_per_token(const Qwen3Config& c, DType dtype, const Parallelism& parallel) {
  return 2 * c.num_hidden_layers * heads_on_rank(c, parallel.tensor_parallel_size).kv_heads * c.head_dim *
         static_cast<std::int64_t>(size_of(dtype));
}

}  // namespace cajal
