#include "models/qwen3.h"

#include <cmath>

#include "models/head_shares.h"
#include "models/mlp.h"

namespace cajal {
namespace {

// What every layer reads of the step.
struct Step {
  KvCacheDType kv_cache_dtype;
  Value slot_mapping, block_tables, seq_indices, positions, rotary_table;
  Value wanted;               // the rows that logits are asked for
  bool early_gather = false;  // the last layer goes on with these alone once it has attended
  ExpertCapacity capacity;
  ColumnGroups groups;
};

HeadShares heads_on_rank(const Qwen3Config& c, int tp) {
  return share_heads(c.num_attention_heads, c.num_key_value_heads, c.head_dim, tp);
}

Storage cache_storage(const Qwen3Config& c, KvCacheDType dtype) {
  if (dtype == KvCacheDType::automatic) return Plain{};
  return Quantized{.bits = 8, .group_size = c.head_dim, .scale_dtype = DType::f32};
}

Value kv_cache(Scope s, const Qwen3Config& c, const char* name, KvCacheDType dtype) {
  const Shape shape{Shape::kDynamic, heads_on_rank(c, s.tp()).kv_heads, kKvBlockSize, c.head_dim};
  const std::string path = (s / name).path();
  return s.graph().add_leaf(ops::State{path}, {s.dtype(), shape, cache_storage(c, dtype)}, path);
}

Value gather_wanted(Scope s, const Step& step, Value x) { return s.op(ops::GatherRows{}, {x, step.wanted}); }

// Behind the last layer's attention nothing depends on a row but its own logits. Where few rows are computed all of them
// cost what one does, the reading of the weights; a capacity is shared out among the rows, and choices of experts are
// wanted of all.
bool gathers_early(const Qwen3GraphOptions& options) {
  constexpr std::int64_t kFewRows = 16;
  const Bucket& b = options.bucket;
  return b.num_tokens > kFewRows && 2 * b.num_logits <= b.num_tokens && !options.capacity_factor &&
         !options.outputs.chosen_experts;
}

bool gathers_in(const Qwen3Config& c, int layer, const Step& step) {
  return step.early_gather && layer + 1 == c.num_hidden_layers;
}

Value attention(Scope s, const Qwen3Config& c, int layer, const Step& step, Value x) {
  const HeadShares heads = heads_on_rank(c, s.tp());
  const std::int64_t tokens = s.shape_of(x)[0], kv_features = std::int64_t{c.num_key_value_heads} * c.head_dim;
  const std::int64_t q_features = std::int64_t{c.num_attention_heads} * c.head_dim;
  const LinearOptions kv{.bias = c.attention_bias || c.qkv_bias, .sharding = heads.kv};

  Value q = column_parallel_linear(s / "q_proj", x, q_features, {.bias = kv.bias, .sharding = heads.q});
  Value k = column_parallel_linear(s / "k_proj", x, kv_features, kv);
  Value v = column_parallel_linear(s / "v_proj", x, kv_features, kv);

  q = reshape(s, q, {tokens, heads.q_heads, c.head_dim});
  k = reshape(s, k, {tokens, heads.kv_heads, c.head_dim});
  v = reshape(s, v, {tokens, heads.kv_heads, c.head_dim});
  if (c.qk_norm) {
    q = rms_norm(s / "q_norm", q, c.rms_norm_eps);
    k = rms_norm(s / "k_norm", k, c.rms_norm_eps);
  }
  q = s.op(ops::Rope{}, {q, step.rotary_table});
  k = s.op(ops::Rope{}, {k, step.rotary_table});

  const KvCacheDType kept = step.kv_cache_dtype;
  const Value k_cache = s.op(ops::KvWrite{}, {kv_cache(s, c, "k_cache", kept), k, step.slot_mapping});
  const Value v_cache = s.op(ops::KvWrite{}, {kv_cache(s, c, "v_cache", kept), v, step.slot_mapping});
  const ops::PagedAttention op{1.0f / std::sqrt(static_cast<float>(c.head_dim)),
                               c.sliding_window[static_cast<std::size_t>(layer)]};
  Value out = s.op(op, {q, k_cache, v_cache, step.block_tables, step.seq_indices, step.positions});
  out = reshape(s, out, {tokens, heads.q_heads * c.head_dim});
  if (gathers_in(c, layer, step)) out = gather_wanted(s, step, out);
  return row_parallel_linear(s / "o_proj", out, q_features, c.hidden_size,
                             {.bias = c.attention_bias, .sharding = heads.o});
}

Value decoder_layer(Scope s, const Qwen3Config& c, int layer, const Step& step, Value x) {
  Value h = rms_norm(s / "input_layernorm", x, c.rms_norm_eps);
  const Value attended = attention(s / "self_attn", c, layer, step, h);
  if (gathers_in(c, layer, step)) x = gather_wanted(s, step, x);
  x = add(s, x, attended);
  h = rms_norm(s / "post_attention_layernorm", x, c.rms_norm_eps);
  const bool sparse = c.num_experts > 0 && c.sparse_layer[static_cast<std::size_t>(layer)];
  return add(s, x,
             sparse ? sparse_moe_block(s / "mlp", c, step.capacity, step.groups, h)
                    : mlp(s / "mlp", c.intermediate_size, step.groups.mlp, h));
}

// Ranks have whole heads, which must be whole groups of o_proj's columns.
void check_heads_keep_groups(const Qwen3Config& c, int tp, std::int64_t group) {
  const std::int64_t columns = std::int64_t{c.num_attention_heads} * c.head_dim;
  const auto fits = [&](int degree) { return degree == 1 || keeps_groups(heads_on_rank(c, degree).o, columns, group); };
  if (fits(tp)) return;
  std::string degrees = "1";
  for (int degree = 2; degree <= 16; ++degree)
    if (fits(degree)) degrees += detail::join(", ", degree);
  fail(ErrorCode::unsupported, "tensor_parallel_size ", tp, " with quantisation by groups of ", group, ": of ",
       c.num_attention_heads, " heads of ", c.head_dim,
       " a rank would have parts of groups, and answers would not be those of one rank",
       remedy("choose a degree that fits, up to 16 these: ", degrees,
              "; or another group size, or keep attention as it is"));
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
  check_expert_parallel_size(c, options.parallel.expert_parallel_size);
  Graph g;
  const Scope root(g, options.parallel, options.dtype);
  const Scope model = root / "model";

  const Value ids = input(g, names::kInputIds, {b.num_tokens});
  Step step{.kv_cache_dtype = options.kv_cache_dtype};
  step.groups = options.groups;
  check_heads_keep_groups(c, root.tp(), options.groups.attention);
  step.positions = input(g, names::kPositions, {b.num_tokens});
  step.slot_mapping = input(g, names::kSlotMapping, {b.num_tokens});
  step.seq_indices = input(g, names::kSeqIndices, {b.num_tokens});
  step.block_tables = input(g, names::kBlockTables, {b.num_seqs, b.max_blocks_per_seq});
  if (options.capacity_factor)
    step.capacity = {effective_capacity_factor(c, *options.capacity_factor), step.seq_indices};
  step.wanted = input(g, names::kLogitsIndices, {b.num_logits});
  step.early_gather = gathers_early(options);

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

  if (!step.early_gather) x = gather_wanted(model / "gather_last", step, x);
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

const char* to_string(KvCacheDType dtype) { return dtype == KvCacheDType::int8 ? "int8" : "auto"; }

std::int64_t kv_bytes_per_token(const Qwen3Config& c, DType dtype, const Parallelism& parallel,
                                KvCacheDType kv_cache_dtype) {
  const TensorType vector{dtype, {1, c.head_dim}, cache_storage(c, kv_cache_dtype)};
  return 2 * c.num_hidden_layers * heads_on_rank(c, parallel.tensor_parallel_size).kv_heads *
         static_cast<std::int64_t>(vector.bytes());
}

}  // namespace cajal
