// cajal export: a model's graphs, plans and weights, made for a machine.
#include "engine/export/export_model.h"

#include <filesystem>
#include <iostream>

#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/session.h"
#include "cli/tables.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

NeuronConfigWish wish_of(const Options& options) {
  const ExportFlags& flags = options.exports;
  NeuronConfigWish wish;
  wish.batch_size = flags.batch_size;
  wish.sequence_length = flags.sequence_length;
  wish.max_context_length = flags.max_context_length;
  wish.prefill_chunk_size = flags.prefill_chunk_size;
  wish.speculation_length = flags.speculation_length;
  wish.capacity_factor = options.common.capacity_factor;
  wish.tp_degree = options.common.tensor_parallel_size;
  wish.ep_degree = options.common.expert_parallel_size;
  wish.on_device_sampling = flags.on_device_sampling;
  wish.max_topk = flags.max_topk;
  wish.output_logits = flags.output_logits;
  return wish;
}

ExportTask wanted_task(const ExportFlags& flags) {
  if (flags.task == "text-generation") return ExportTask::text_generation;
  return flags.task == "feature-extraction" ? ExportTask::feature_extraction : ExportTask::automatic;
}

std::string show_bytes(std::uint64_t bytes) { return human_bytes(static_cast<double>(bytes)); }

Json report_json(const ExportReport& r, const std::string& output) {
  Json::Array graphs;
  for (const ExportedGraph& g : r.manifest.graphs)
    graphs.emplace_back(Json::Object{{"file", g.file}, {"arena_bytes", g.arena_bytes}});
  return Json::Object{{"output", output},
                      {"task", r.manifest.logits ? "text-generation" : "feature-extraction"},
                      {"target", r.manifest.target},
                      {"ranks", r.neuron_config.world_size()},
                      {"batch_size", r.neuron_config.batch_size},
                      {"sequence_length", r.neuron_config.sequence_length},
                      {"weight_bytes", r.weight_bytes},
                      {"kv_cache_bytes", r.kv_cache_bytes},
                      {"arena_bytes", r.arena_bytes},
                      {"graphs", std::move(graphs)}};
}

std::string report_text(const ExportReport& r, const std::string& output) {
  const NeuronConfig& c = r.neuron_config;
  std::string text =
      detail::join(output, ": for ", r.manifest.target, ", ", c.batch_size,
                   c.batch_size == 1 ? " sequence of " : " sequences of ", c.sequence_length, " tokens, ");
  const char* what = r.manifest.logits ? "prompts" : "texts to encode";
  text += c.prefill_chunk_size > 0 ? detail::join(what, " in chunks of ", c.prefill_chunk_size)
                                   : detail::join(what, " of ", c.max_context_length, " at once");
  if (c.speculation_length > 0) text += detail::join(", ", c.speculation_length, " rows a guess");
  if (c.world_size() > 1) text += detail::join(", on ", c.world_size(), " ranks");
  return text + detail::join(c.world_size() > 1 ? "\neach runs in " : "\nruns in ",
                             show_bytes(r.weight_bytes + r.kv_cache_bytes + r.arena_bytes), ": weights ",
                             show_bytes(r.weight_bytes), ", cache ", show_bytes(r.kv_cache_bytes), ", activations ",
                             show_bytes(r.arena_bytes), "\n");
}

}  // namespace

void run_export(CommandContext& context) {
  const Options& o = context.options;
  if (o.common.model.empty()) misuse("no MODEL is given", remedy("name a folder with a model"));
  if (o.exports.output.empty()) misuse("no folder to write is given", remedy("name one with -o DIR"));
  cajal::ExportOptions options;
  options.model.folder = resolve_model(o.common.model, context.environment, o.common.download);
  options.model.dtype = wanted_dtype(o.common);
  options.model.quantization = wanted_quantization(o.common);
  options.model.kv_cache_dtype = wanted_kv_cache_dtype(o.common);
  options.model.load_format = wanted_load_format(o.common);
  options.model.config_overrides = o.common.hf_overrides;
  options.output = o.exports.output;
  if (options.model.folder != o.common.model) {  // a name that was looked up: its folder is called after the revision
    options.checkpoint_id = o.common.model;
    options.checkpoint_revision = std::filesystem::path(options.model.folder).filename().string();
  }
  options.target = o.exports.target.empty() ? "cpu" : o.exports.target;
  options.limits = wish_of(o);
  options.task = wanted_task(o.exports);
  options.num_threads = o.common.threads.value_or(0);
  const DeferInterrupts defer;  // so that no half-written folder stays behind
  const bool shows_progress = is_terminal(std::cerr);
  options.on_progress = [&](std::uint64_t done, std::uint64_t all) {
    throw_if_interrupted();
    if (shows_progress)
      std::cerr << "\r\033[Kwriting weights: " << show_bytes(done) << " of " << show_bytes(all) << std::flush;
  };
  const ExportReport report = export_model(options);
  if (shows_progress) std::cerr << "\r\033[K" << std::flush;
  context.out.write(o.json ? to_json(report_json(report, options.output)) + "\n" : report_text(report, options.output));
}

}  // namespace cajal::cli
