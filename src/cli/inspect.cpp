// cajal inspect: what a model is made of, without loading its weights.
#include "engine/inspect.h"

#include <algorithm>

#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/session.h"
#include "cli/tables.h"
#include "cli/usage_error.h"
#include "engine/bench.h"
#include "engine/export/export_limits.h"
#include "models/embedding_config.h"

namespace cajal::cli {
namespace {

std::optional<GraphKind> wanted_graph(const std::string& name) {
  if (name.empty()) return std::nullopt;
  std::string word = name;
  std::replace(word.begin(), word.end(), '-', '_');
  const auto kind = graph_kind_from_string(word);
  if (!kind)
    misuse("--graph is ", name,
           ", expected context_encoding, chunked_prefill, token_generation, speculation or encoding");
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
  if (g.floor_seconds) json.set("floor_seconds", *g.floor_seconds);
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

int num_ranks(const Parallelism& p) { return p.tensor_parallel_size * p.expert_parallel_size; }

Json memory_json(const MemoryByUse& m, const Parallelism& parallel) {
  return Json::Object{{"ranks", num_ranks(parallel)},
                      {"weight_bytes", m.weight_bytes},
                      {"kv_cache_bytes", m.kv_cache_bytes},
                      {"arena_bytes", m.arena_bytes},
                      {"total_bytes", m.total()}};
}

Json as_json(const Inspection& i, const std::string& name, bool plan) {
  const ParameterCount& p = i.parameters;
  Json::Array graphs;
  for (const GraphReport& g : i.graphs) graphs.push_back(graph_json(g, plan));
  Json json = Json::Object{
      {"model", name},
      {"device", i.device},
      {"target", i.target},
      {"dtype", flag_word(i.dtype)},
      {"config", config_json(i.config)},
      {"parameters",
       Json::Object{{"total", p.total}, {"active", p.active}, {"embedding", p.embedding}, {"experts", p.experts}}},
      {"weight_bytes", i.weight_bytes},
      {"kv_bytes_per_token", i.kv_bytes_per_token},
      {"max_model_len", i.limits.max_model_len},
      {"max_num_seqs", i.limits.max_num_seqs},
      {"memory", memory_json(i.memory, i.parallel)},
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
  if (num_ranks(i.parallel) > 1)
    line("ranks", num_ranks(i.parallel), ", tensor parallel ", i.parallel.tensor_parallel_size, " x expert parallel ",
         i.parallel.expert_parallel_size, "; what follows is of each");
  line("weights", human_bytes(static_cast<double>(i.weight_bytes)));
  line("KV cache", human_bytes(static_cast<double>(i.kv_bytes_per_token)), " a token");
  line("max model len", i.limits.max_model_len, " tokens");
  line("takes", human_bytes(static_cast<double>(i.memory.total())), " with ", i.limits.max_num_seqs,
       i.limits.max_num_seqs == 1 ? " sequence of " : " sequences of ", i.limits.max_model_len, " tokens: weights ",
       human_bytes(static_cast<double>(i.memory.weight_bytes)), ", cache ",
       human_bytes(static_cast<double>(i.memory.kv_cache_bytes)), ", activations ",
       human_bytes(static_cast<double>(i.memory.arena_bytes)));
  if (i.memory_bytes == 0) return text;
  line("memory", human_bytes(static_cast<double>(i.memory_bytes)), ": ", fits_text(i.fits));
  return text;
}

std::string graphs_table(const Inspection& i) {
  const bool has_floors = !i.graphs.empty() && i.graphs.front().floor_seconds.has_value();
  std::vector<std::string> head{"graph", "rows", "sequences", "nodes", "activations", "GFLOP", "reads"};
  if (has_floors) head.emplace_back("at least");
  Table table(head);
  for (const GraphReport& g : i.graphs) {
    std::vector<std::string> row{to_string(g.kind),
                                 std::to_string(g.bucket.num_tokens),
                                 std::to_string(g.bucket.num_seqs),
                                 std::to_string(g.num_nodes),
                                 human_bytes(static_cast<double>(g.arena_bytes)),
                                 fixed(g.cost.flops() / 1e9, 2),
                                 human_bytes(g.cost.bytes())};
    if (has_floors) row.push_back(human_seconds(g.floor_seconds.value_or(0)));
    table.add(std::move(row));
  }
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

namespace {

void set_limits(cajal::InspectOptions& options, const Options& o) {
  BucketLimits& limits = options.limits;
  const ExportFlags& e = o.exports;
  options.encodes =
      e.task == "feature-extraction" || (e.task == "auto" && load_embedding_config(options.folder).is_embedding_model);
  limits.max_num_seqs = e.batch_size.value_or(limits.max_num_seqs);
  limits.max_model_len = e.sequence_length.value_or(o.common.max_model_len.value_or(0));
  limits.max_context_length = e.max_context_length.value_or(0);
  if (e.prefill_chunk_size.value_or(0) > 0) limits.prefill_chunk_size = *e.prefill_chunk_size;
  if (e.speculation_length.value_or(0) > 0) limits.speculation_length = *e.speculation_length;
}

// What an export was made for; flags may not say otherwise.
void take_from_export(cajal::InspectOptions& options, std::string& target, const Options& o) {
  const ExportFolder exported(options.folder);
  const ExportFlags& e = o.exports;
  if (e.batch_size || e.sequence_length || e.max_context_length || e.prefill_chunk_size || e.speculation_length ||
      o.common.max_model_len || e.task != "auto" || !o.common.hf_overrides.is_null() || o.common.dtype != "auto" ||
      o.common.kv_cache_dtype != "auto")
    misuse(options.folder, " is an export, and its limits are what they are", remedy("leave out flags that set them"));
  options.dtype = exported.manifest().dtype;
  options.quantization = exported.manifest().quantization;
  options.limits = limits_of(exported.neuron_config());
  options.parallel = exported.recipe().graph.parallel;
  options.encodes = encodes_only(exported.recipe().graph.outputs);
  if (target.empty()) target = exported.manifest().target;
  if (target != exported.manifest().target) fail_other_target(exported.manifest().target, target);
}

// For the machine that this is, or for a target that may be elsewhere.
Inspection inspect_for(cajal::InspectOptions& options, const std::string& target, const Options& o) {
  const int threads = o.common.threads.value_or(available_cores());
  if (target.empty()) {
    const auto backend = open_device(o.common);
    if (o.inspect.plan) options.ceilings = measure_ceilings(*backend);
    return inspect(options, *backend);
  }
  if (!options.memory_bytes) options.memory_bytes = 0;
  return inspect(options, *make_target(target), threads);
}

}  // namespace

void run_inspect(CommandContext& context) {
  const Options& o = context.options;
  cajal::InspectOptions options;
  options.graph_text = wanted_graph(o.inspect.graph);
  options.folder = resolve_model(o.common.model, context.environment, o.common.download);
  options.dtype = wanted_dtype(o.common);
  options.quantization = wanted_quantization(o.common);
  options.kv_cache_dtype = wanted_kv_cache_dtype(o.common);
  options.config_overrides = o.common.hf_overrides;
  options.memory_bytes = o.inspect.memory_bytes;
  options.parallel = {o.common.tensor_parallel_size.value_or(1), o.common.expert_parallel_size.value_or(1)};
  std::string target = o.exports.target;
  is_export(options.folder) ? take_from_export(options, target, o) : set_limits(options, o);
  if (options.encodes != (options.graph_text == GraphKind::encoding) && options.graph_text)
    misuse("--graph is ", o.inspect.graph, ", and a model for ",
           options.encodes ? "feature-extraction has encoding graphs alone" : "text-generation has no encoding graphs",
           remedy("say --task ", options.encodes ? "text-generation" : "feature-extraction"));
  const Inspection result = inspect_for(options, target, o);
  const std::string& name = o.common.model;
  context.out.write(o.json ? to_json(as_json(result, name, o.inspect.plan), 2) + "\n"
                           : as_text(result, name, o.inspect.plan));
  const bool asks = o.exports.batch_size || o.exports.sequence_length || is_export(options.folder);
  if (o.inspect.memory_bytes && asks) check_fits(result);
}

}  // namespace cajal::cli
