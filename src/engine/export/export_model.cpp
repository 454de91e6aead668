#include "engine/export/export_model.h"

#include <algorithm>
#include <map>

#include "backends/target.h"
#include "base/checked.h"
#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/dummy_weights.h"
#include "checkpoint/loader.h"
#include "engine/export/export_limits.h"
#include "engine/export/export_writer.h"
#include "engine/inspect.h"
#include "models/embedding_config.h"

namespace cajal {
namespace {

// What comes with a model and is not ours to change.
constexpr const char* kCopied[] = {"generation_config.json",
                                   "tokenizer.json",
                                   "tokenizer_config.json",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "vocab.json",
                                   "merges.txt",
                                   "chat_template.jinja",
                                   "chat_template.json",
                                   "config_sentence_transformers.json",
                                   "sentence_bert_config.json",
                                   "modules.json",
                                   "1_Pooling/config.json"};
std::string weights_file(int rank) { return detail::join("weights/rank_", rank, ".safetensors"); }

// Appends each parameter to the file as soon as it is whole. Holds one at a time.
class FileSink final : public WeightSink {
 public:
  // Calls `on_written` with the bytes of each.
  FileSink(PreparedWeightsWriter& writer, ThreadPool& pool, std::function<void(std::uint64_t)> on_written)
      : writer_(writer), pool_(pool), on_written_(std::move(on_written)) {}

  std::span<std::byte> destination(const std::string&, const TensorType& type) override {
    if (buffer_.size() < type.bytes()) buffer_ = std::vector<std::byte>();  // not both at a time
    if (buffer_.size() < type.bytes()) buffer_.resize(type.bytes());
    size_ = type.bytes();
    return std::span(buffer_).first(size_);
  }
  void finished(const std::string&) override {
    writer_.append(std::span(buffer_).first(size_), pool_);
    on_written_(size_);
  }

 private:
  PreparedWeightsWriter& writer_;
  ThreadPool& pool_;
  std::function<void(std::uint64_t)> on_written_;
  std::vector<std::byte> buffer_;
  std::size_t size_ = 0;
};

// Writes one export, step by step.
class Exporter {
 public:
  explicit Exporter(const ExportOptions& options)
      : options_(options),
        target_(make_target(options.target)),
        pool_(options.num_threads > 0 ? options.num_threads : available_cores()) {
    if (is_export(options.model.folder))
      fail(ErrorCode::invalid_argument, options.model.folder, ": is an export already",
           remedy("export the model that it was made from"));
    if (options.model.load_format != LoadFormat::dummy) checkpoint_.emplace(options.model.folder);
    check_quantization(options.model.quantization, target_->name());
    if (options.model.kv_cache_dtype != KvCacheDType::automatic)
      fail(ErrorCode::unsupported, "exports keep their KV cache in the model's dtype, and ",
           to_string(options.model.kv_cache_dtype), " is asked for",
           remedy("leave --kv-cache-dtype out, or run the checkpoint itself with it"));
    recipe_ = recipe_for_task();
    NeuronConfigWish limits = options.limits;
    limits.encodes = encodes_only(recipe_.graph.outputs);
    config_ = make_neuron_config(limits, recipe_.config, recipe_.graph.dtype);
    config_.target = target_->name();
    config_.neuronxcc_version = "cajal-" CAJAL_VERSION;
    config_.checkpoint_id = options.checkpoint_id;
    config_.checkpoint_revision = options.checkpoint_revision;
    check_experts();
    recipe_.graph.parallel = parallelism_of(config_);
  }

  ExportReport run() {
    ExportWriter folder(options_.output);
    const Graph smallest = prepared(graphs_to_make().front().bucket);
    all_weight_bytes_ =
        checked_mul(weight_bytes(smallest), static_cast<std::uint64_t>(config_.world_size()), "weights of all ranks");
    folder.need_room(all_weight_bytes_);
    describe();
    folder.write("config.json", config_text());
    folder.write(kNeuronConfigFile, to_json_text(config_));
    for (const char* name : kCopied) folder.copy_if_there(options_.model.folder, name);
    write_graphs(folder);
    for (int rank = 0; rank < config_.world_size(); ++rank) write_weights(folder, smallest, rank);
    folder.write("plan.json", to_json(plan_json(), 2) + "\n");
    report_.manifest.files = folder.files();
    write_file(folder.path(kManifestFile), to_json_text(report_.manifest));
    folder.finish();
    report_.neuron_config = config_;
    return std::move(report_);
  }

 private:
  // What the task takes of the model, and no more of its weights.
  ModelRecipe recipe_for_task() const {
    ModelOptions model = options_.model;
    const bool encodes =
        options_.task == ExportTask::feature_extraction ||
        (options_.task == ExportTask::automatic && load_embedding_config(model.folder).is_embedding_model);
    if (encodes) model.outputs = {.logits = false, .last_hidden_state = true};
    ModelRecipe recipe = make_recipe(model, checkpoint_ ? &*checkpoint_ : nullptr);
    if (options_.task == ExportTask::text_generation && !recipe.graph.outputs.logits)
      fail(ErrorCode::unsupported, model.folder,
           ": the checkpoint has no output head (lm_head.weight), so it generates no text",
           remedy("export it with --task feature-extraction, or use a Qwen3ForCausalLM checkpoint"));
    return recipe;
  }

  std::vector<PlannedGraph> graphs_to_make() const { return planned_graphs(config_, recipe_.graph.outputs); }

  void check_experts() {
    if (config_.capacity_factor) set_capacity_factor(recipe_, *config_.capacity_factor);
    config_.capacity_factor = recipe_.graph.capacity_factor;  // null where it is the whole, as Optimum Neuron does
    if (config_.capacity_factor && config_.speculation_length > 0)
      fail(ErrorCode::invalid_argument, "capacity_factor is ", *config_.capacity_factor, " and speculation_length ",
           config_.speculation_length, ": guesses would take experts' places from the tokens that they guess at",
           remedy("leave one of them out"));
  }

  Graph prepared(const Bucket& bucket) const {
    return prepared_graph(recipe_, bucket, recipe_.graph.outputs,
                          [this](const Graph& graph) { return target_->prepare(graph); });
  }

  void describe() {
    Manifest& m = report_.manifest;
    m.cajal_version = CAJAL_VERSION;
    m.target = target_->name();
    m.dtype = recipe_.graph.dtype;
    m.logits = recipe_.graph.outputs.logits;
    m.last_hidden_state = recipe_.graph.outputs.last_hidden_state;
    m.embedding_tensor = recipe_.graph.embedding_tensor;
    m.lm_head_tensor = recipe_.graph.lm_head_tensor;
    m.quantization = recipe_.quantization;
    m.num_threads = pool_.size();
    m.source = options_.model.folder;
  }

  // With overrides, what they make of it, so that the graphs and the file agree.
  std::string config_text() const {
    const std::string path = options_.model.folder + "/config.json";
    if (options_.model.config_overrides.is_null()) return read_file(path);
    Json json = parse_json(read_file(path), path);
    for (const auto& [key, value] : options_.model.config_overrides.as_object()) json.set(key, value);
    return to_json(json, 2) + "\n";
  }

  void write_graphs(ExportWriter& folder) {
    for (const PlannedGraph& planned : graphs_to_make()) {
      const Graph graph = prepared(planned.bucket);
      const TargetPlan plan = target_->plan(graph, pool_.size());
      const std::string name = detail::join("graphs/", to_string(planned.kind), "_", planned.bucket.num_tokens, ".txt");
      folder.write(name, to_text(graph));
      report_.manifest.graphs.push_back({planned.kind, planned.bucket, name, plan.memory.arena_bytes});
      report_.arena_bytes = std::max<std::uint64_t>(report_.arena_bytes, plan.memory.arena_bytes);
      kernels_.push_back(kernel_uses(plan.graph, plan.kernel_names));
      report_.manifest.kv_bytes_per_block = kv_bytes_per_block(graph);
    }
    const RunnerLimits limits = runner_limits(config_, recipe_.graph.outputs);
    report_.kv_cache_bytes = report_.manifest.kv_bytes_per_block * static_cast<std::uint64_t>(limits.num_kv_blocks);
  }

  void write_weights(ExportWriter& folder, const Graph& graph, int rank) {
    const std::string name = weights_file(rank);
    const TensorParallelRank place = tensor_parallel_rank(config_, rank);
    std::vector<PreparedTensor> tensors;
    for (const Node& node : graph.nodes())
      if (std::holds_alternative<ops::Parameter>(node.op))
        tensors.push_back({node.name, graph.type(node.results.front())});
    PreparedWeightsWriter writer(folder.path(name), std::move(tensors));
    FileSink sink(writer, pool_, [this](std::uint64_t bytes) {
      done_weight_bytes_ += bytes;
      if (options_.on_progress) options_.on_progress(done_weight_bytes_, all_weight_bytes_);
    });
    Staging staging(pool_);
    report_.weight_bytes = checkpoint_ ? load_all(*checkpoint_, graph, place, sink, staging)
                                       : fill_all_dummy(graph, place, options_.model.dummy_seed, sink, staging);
    writer.finish();
    ExportedWeights weights{name, File(folder.path(name)).size(), {}};
    for (const PreparedTensor& tensor : writer.tensors())
      weights.tensors.push_back({tensor.name, tensor.type, tensor.checksum});
    report_.manifest.ranks.push_back(std::move(weights));
  }

  // For people: nothing reads it. Bytes are one rank's.
  Json plan_json() const {
    Json::Array graphs;
    for (std::size_t i = 0; i < report_.manifest.graphs.size(); ++i) {
      const ExportedGraph& g = report_.manifest.graphs[i];
      Json::Array kernels;
      for (const KernelUse& use : kernels_[i])
        kernels.emplace_back(Json::Object{{"op", use.op}, {"kernel", use.kernel}, {"nodes", use.nodes}});
      graphs.emplace_back(
          Json::Object{{"file", g.file}, {"arena_bytes", g.arena_bytes}, {"kernels", std::move(kernels)}});
    }
    return Json::Object{{"target", report_.manifest.target},
                        {"ranks", config_.world_size()},
                        {"num_threads", pool_.size()},
                        {"weight_bytes", report_.weight_bytes},
                        {"kv_cache_bytes", report_.kv_cache_bytes},
                        {"kv_bytes_per_token", report_.manifest.kv_bytes_per_block / kKvBlockSize},
                        {"arena_bytes", report_.arena_bytes},
                        {"graphs", std::move(graphs)}};
  }

  const ExportOptions& options_;
  std::unique_ptr<Target> target_;
  ThreadPool pool_;
  std::optional<Checkpoint> checkpoint_;
  ModelRecipe recipe_;
  NeuronConfig config_;
  ExportReport report_;
  std::vector<std::vector<KernelUse>> kernels_;  // by graph
  std::uint64_t done_weight_bytes_ = 0, all_weight_bytes_ = 0;
};

}  // namespace

ExportReport export_model(const ExportOptions& options) { return Exporter(options).run(); }

}  // namespace cajal
