// cajal inspect: what a model is made of, without loading its weights.
#include "engine/inspect.h"

#include <algorithm>

#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/session.h"
#include "cli/tables.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

std::optional<GraphKind> wanted_graph(const std::string& name) {
  if (name.empty()) return std::nullopt;
  std::string word = name;
  std::replace(word.begin(), word.end(), '-', '_');
  const auto kind = graph_kind_from_string(word);
  if (!kind)
    misuse("--graph is ", name, ", expected context_encoding, chunked_prefill, token_generation or speculation");
  return kind;
}

Json config_json(const Qwen3Config& c) {
  Json json = Json::Object{{"model_type", c.model_type},
                           {"vocab_size", c.vocab_size},
                           {"hidden_size", c.hidden_size},
                           {"intermediate_size", c.intermediate_size},
                           {"num_hidden_layers", c.num_hidden_layers},
                           {"num_attention_heads", c.num_attention_heads},
                           {"num_key_value_heads", c.num_key_value_heads},
                           {"head_dim", c.head_dim},
                           {"tie_word_embeddings", c.tie_word_embeddings},
                           {"max_position_embeddings", c.max_position_embeddings}};
  if (c.num_experts > 0) {
    json.set("num_experts", c.num_experts);
    json.set("num_experts_per_tok", c.num_experts_per_tok);
    json.set("moe_intermediate_size", c.moe_intermediate_size);
  }
  return json;
}

Json bucket_json(const Bucket& b) {
  return Json::Object{{"num_tokens", b.num_tokens},
                      {"num_seqs", b.num_seqs},
                      {"max_blocks_per_seq", b.max_blocks_per_seq},
                      {"num_logits", b.num_logits}};
}

Json graph_json(const GraphReport& g, bool plan) {
  Json json = Json::Object{{"kind", to_string(g.kind)},    {"bucket", bucket_json(g.bucket)}, {"nodes", g.num_nodes},
                           {"arena_bytes", g.arena_bytes}, {"values_bytes", g.values_bytes},  {"flops", g.cost.flops()},
                           {"bytes", g.cost.bytes()}};
  if (!plan) return json;
  Json::Array kernels, values;
  for (const KernelUse& k : g.kernels)
    kernels.emplace_back(Json::Object{{"op", k.op}, {"kernel", k.kernel}, {"nodes", k.nodes}});
  for (const LargeValue& v : g.largest_values)
    values.emplace_back(Json::Object{{"name", v.name}, {"type", v.type}, {"offset", v.offset}, {"bytes", v.bytes}});
  json.set("kernels", std::move(kernels));
  json.set("largest_values", std::move(values));
  return json;
}

Json fits_json(const std::vector<Fit>& fits) {
  Json::Array list;
  for (const Fit& f : fits)
    list.emplace_back(Json::Object{{"num_seqs", f.num_seqs}, {"max_model_len", f.max_model_len}});
  return list;
}

Json as_json(const Inspection& i, const std::string& name, bool plan) {
  const ParameterCount& p = i.parameters;
  Json::Array graphs;
  for (const GraphReport& g : i.graphs) graphs.push_back(graph_json(g, plan));
  Json json = Json::Object{
      {"model", name},
      {"device", i.device},
      {"dtype", flag_word(i.dtype)},
      {"config", config_json(i.config)},
      {"parameters",
       Json::Object{{"total", p.total}, {"active", p.active}, {"embedding", p.embedding}, {"experts", p.experts}}},
      {"weight_bytes", i.weight_bytes},
      {"kv_bytes_per_token", i.kv_bytes_per_token},
      {"max_model_len", i.limits.max_model_len},
      {"memory_bytes", i.memory_bytes},
      {"fits", fits_json(i.fits)},
      {"graphs", std::move(graphs)}};
  if (!i.graph_after.empty()) {
    json.set("graph_before", i.graph_before);
    json.set("graph_after", i.graph_after);
  }
  return json;
}

std::string shape_of(const Qwen3Config& c) {
  std::string text = detail::join(c.num_hidden_layers, " layers of ", c.hidden_size, ", ", c.num_attention_heads,
                                  " heads of ", c.head_dim, ", ", c.num_key_value_heads, " for keys and values");
  if (c.num_experts > 0) text += detail::join(", ", c.num_experts_per_tok, " of ", c.num_experts, " experts");
  return text;
}

std::string fits_text(const std::vector<Fit>& fits) {
  constexpr std::int64_t kMostShown = 64;
  std::string text;
  for (const Fit& f : fits) {
    if (f.num_seqs > kMostShown || f.max_model_len == 0) break;
    text += detail::join(text.empty() ? "enough for " : ", ", f.num_seqs, " x ", f.max_model_len);
  }
  return text.empty() ? "too little for this model" : text + " tokens";
}

std::string summary(const Inspection& i, const std::string& name) {
  std::string text;
  const auto line = [&](std::string_view what, const auto&... parts) {
    text += std::string(what) + std::string(15 - std::min<std::size_t>(what.size(), 14), ' ') + detail::join(parts...) +
            "\n";
  };
  const ParameterCount& p = i.parameters;
  line("model", name, " (", i.config.model_type, ")");
  line("device", i.device, ", ", flag_word(i.dtype));
  line("shape", shape_of(i.config));
  line("vocabulary", i.config.vocab_size,
       i.config.tie_word_embeddings ? " tokens, one table for embedding and head" : " tokens");
  line("parameters", with_thousands(p.total),
       p.active == p.total ? "" : ", active for a token: " + with_thousands(p.active));
  line("weights", human_bytes(static_cast<double>(i.weight_bytes)));
  line("KV cache", human_bytes(static_cast<double>(i.kv_bytes_per_token)), " a token");
  line("max model len", i.limits.max_model_len, " tokens");
  line("memory", human_bytes(static_cast<double>(i.memory_bytes)), " free, ", fits_text(i.fits));
  return text;
}

std::string graphs_table(const Inspection& i) {
  Table table({"graph", "rows", "sequences", "nodes", "activations", "GFLOP", "reads"});
  for (const GraphReport& g : i.graphs)
    table.add({to_string(g.kind), std::to_string(g.bucket.num_tokens), std::to_string(g.bucket.num_seqs),
               std::to_string(g.num_nodes), human_bytes(static_cast<double>(g.arena_bytes)),
               fixed(g.cost.flops() / 1e9, 2), human_bytes(g.cost.bytes())});
  return "\n" + table.text();
}

std::string plan_text(const GraphReport& g) {
  std::string text =
      detail::join("\n", to_string(g.kind), ": activations take ", human_bytes(static_cast<double>(g.arena_bytes)),
                   ", without sharing they would take ", human_bytes(static_cast<double>(g.values_bytes)), "\n");
  Table kernels({"op", "kernel", "nodes"}), values({"largest values", "type", "offset", "size"});
  for (const KernelUse& k : g.kernels) kernels.add({k.op, k.kernel, std::to_string(k.nodes)});
  for (const LargeValue& v : g.largest_values)
    values.add({v.name, v.type, std::to_string(v.offset), human_bytes(static_cast<double>(v.bytes))});
  return text + kernels.text() + "\n" + values.text();
}

std::string as_text(const Inspection& i, const std::string& name, bool plan) {
  if (!i.graph_after.empty() && !plan) return i.graph_after;
  std::string text = summary(i, name) + graphs_table(i);
  if (plan)
    for (const GraphReport& g : i.graphs) text += plan_text(g);
  return i.graph_after.empty() ? text : text + "\n" + i.graph_after;
}

}  // namespace

void run_inspect(CommandContext& context) {
  const Options& o = context.options;
  cajal::InspectOptions options;
  options.graph_text = wanted_graph(o.inspect.graph);
  options.folder = resolve_model(o.common.model, context.environment);
  options.dtype = wanted_dtype(o.common);
  options.quantization = wanted_quantization(o.common);
  options.config_overrides = o.common.hf_overrides;
  options.limits.max_model_len = o.common.max_model_len.value_or(0);
  const auto backend = open_device(o.common);
  const Inspection result = inspect(options, *backend);
  const std::string& name = o.common.model;
  context.out.write(o.json ? to_json(as_json(result, name, o.inspect.plan), 2) + "\n"
                           : as_text(result, name, o.inspect.plan));
}

}  // namespace cajal::cli
