#include "engine/model.h"

#include <algorithm>

#include "backends/target.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/dummy_weights.h"
#include "checkpoint/loader.h"
#include "distributed/ranks.h"
#include "engine/ranks/model_fingerprint.h"

namespace cajal {
namespace {

// Rows on their way to a device that stores them by itself.
class UploadedRows final : public RowStore {
 public:
  explicit UploadedRows(Uploader& uploader) : uploader_(uploader) {}
  std::size_t max_bytes() const override { return uploader_.slot_bytes(); }
  std::span<std::byte> acquire() override { return uploader_.acquire(); }
  void store(std::int64_t first_row, std::int64_t num_rows, std::span<std::byte> rows) override {
    uploader_.store(first_row, num_rows, rows);
  }
  void give_back(std::span<std::byte> rows) override { uploader_.give_back(rows); }
  bool makes_dummy_rows() const override { return uploader_.makes_dummy_rows(); }
  void make(std::span<const DummyRows> rows) override { uploader_.make(rows); }

 private:
  Uploader& uploader_;
};

// Gives every parameter a buffer of its own on the device. The loader fills the buffer itself where the host can write to
// it, and else hands rows over.
class DeviceSink final : public WeightSink {
 public:
  DeviceSink(Backend& backend, std::map<std::string, std::unique_ptr<Buffer>>& into)
      : backend_(backend), into_(into), uploader_(backend.make_uploader()) {
    if (uploader_) rows_.emplace(*uploader_);
  }

  std::span<std::byte> destination(const std::string& name, const TensorType& type) override {
    return (into_[name] = backend_.allocate(type.bytes()))->host_view();
  }
  RowStore* row_store(const std::string& name, const TensorType& type) override {
    if (!uploader_) return nullptr;
    uploader_->begin(*(into_[name] = backend_.allocate(type.bytes())), type);
    return &*rows_;
  }
  void wait() {
    if (uploader_) uploader_->finish();
  }

 private:
  Backend& backend_;
  std::map<std::string, std::unique_ptr<Buffer>>& into_;
  std::unique_ptr<Uploader> uploader_;
  std::optional<UploadedRows> rows_;
};

}  // namespace

Qwen3Config load_config(const std::string& folder, const Json& overrides) {
  const std::string file = folder + "/config.json";
  Json json = parse_json(read_file(file), file);
  if (!overrides.is_null()) {
    if (!overrides.is_object() || !json.is_object())
      fail(ErrorCode::invalid_argument, "overrides of config.json are ", overrides.type_name(), ", expected an object");
    for (const auto& [key, value] : overrides.as_object()) json.set(key, value);
  }
  return read_qwen3_config(json, file);
}

DType choose_dtype(DType stored, std::optional<DType> wanted) {
  if (wanted == DType::f16)
    fail(ErrorCode::unsupported, "dtype float16 cannot be computed in yet",
         remedy("use --dtype float32, which holds every float16 value, or bfloat16"));
  const DType dtype = wanted.value_or(stored);
  if (dtype != DType::f16) return dtype;
  log_warning("the checkpoint is float16, which cannot be computed in yet: running in float32");
  return DType::f32;
}

Model::Model(const ModelOptions& options, Backend& backend)
    : folder_(options.folder), backend_(backend), generation_config_(load_generation_config(options.folder)) {
  const RankGroups* const ranks = backend.ranks();
  CAJAL_CHECK(!ranks || ranks->world->size() == 1 || ranks->world->rank() > 0 || options.ranks || options.in_step,
              "a model on rank 0 of ", ranks->world->size(),
              " without ModelOptions::ranks would wait for the others for ever");
  if (options.ranks)
    on_all_ranks_ = options.ranks->load_model(options, [&] {
      load(options);
      return RankOutcome{.fingerprint = model_fingerprint(folder_), .free_bytes = backend.free_bytes()};
    });
  else
    load(options);
}

void Model::load(const ModelOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  if (is_export(folder_))
    load_export(folder_, options);
  else if (!options.prepared.empty())
    load_export(options.prepared, options);
  else
    load_checkpoint(options);
  load_time_ = std::chrono::steady_clock::now() - start;
}

Graph Model::graph(const Bucket& bucket, const Qwen3Outputs& outputs) const {
  if (outputs.logits && !has_lm_head() && exported_)
    fail(ErrorCode::unsupported, folder_,
         ": the model was exported for feature-extraction and gives vectors, no logits",
         remedy("run 'cajal embed', or export it with --task text-generation"));
  if (outputs.logits && !has_lm_head())
    fail(ErrorCode::unsupported, folder_, ": the checkpoint has no output head (lm_head.weight), so it gives no logits",
         remedy("it is a base model, good for 'cajal embed'; to generate use a Qwen3ForCausalLM checkpoint"));
  const bool own_cache = kv_cache_dtype() != KvCacheDType::automatic;  // which no exported graph has
  if (exported_ && !own_cache && !outputs.chosen_experts &&
      outputs.last_hidden_state <= recipe_.graph.outputs.last_hidden_state)
    if (auto graph = exported_->graph(bucket)) return keep_outputs(std::move(*graph), recipe_.graph.outputs, outputs);
  return prepared_graph(recipe_, bucket, outputs, [this](const Graph& built) { return backend_.prepare(built); });
}

void Model::load_checkpoint(const ModelOptions& options) {
  std::optional<Checkpoint> checkpoint;
  if (options.load_format != LoadFormat::dummy) checkpoint.emplace(folder_);
  check_quantization(options.quantization, backend_.target());
  check_kv_cache_dtype(options.kv_cache_dtype, backend_.target());
  recipe_ = make_recipe(options, checkpoint ? &*checkpoint : nullptr);
  TensorParallelRank rank;
  if (const RankGroups* const ranks = backend_.ranks()) {
    recipe_.graph.parallel = {ranks->tensor->size(), ranks->expert->size()};
    rank = {ranks->tensor->rank(), ranks->tensor->size(), ranks->expert->rank(), ranks->expert->size()};
  }
  // Every bucket's graph has the same parameters; the smallest is the quickest to build.
  const Graph graph = this->graph(Bucket{});
  DeviceSink sink(backend_, parameters_);
  Staging staging(backend_.host_threads());
  weight_bytes_ = checkpoint ? load_all(*checkpoint, graph, rank, sink, staging)
                             : fill_all_dummy(graph, rank, options.dummy_seed, sink, staging);
  sink.wait();
}

namespace {

void check_wishes(const ModelOptions& options, const ExportFolder& exported) {
  const auto refuse = [&](const auto&... parts) {
    fail(ErrorCode::invalid_argument, exported.path(), " is an export, and ", parts...,
         remedy("leave it out, or export the model again with it"));
  };
  if (options.load_format == LoadFormat::dummy) refuse("dummy weights are asked for");
  if (!options.quantization.none() && !(options.quantization == exported.manifest().quantization))
    refuse("quantization ", to_string(options.quantization), " is asked for: it was made with ",
           to_string(exported.manifest().quantization));
  if (options.kv_cache_dtype != KvCacheDType::automatic)
    refuse("a KV cache in ", to_string(options.kv_cache_dtype), " is asked for: its graphs are made");
  if (options.capacity_factor && options.capacity_factor != exported.recipe().graph.capacity_factor)
    refuse("capacity_factor ", *options.capacity_factor, " is asked for: its graphs are made");
  if (!options.config_overrides.is_null()) refuse("keys of config.json are to be replaced: its graphs are made");
  if (options.dtype && *options.dtype != exported.manifest().dtype)
    refuse("dtype ", to_string(*options.dtype), " is asked for: it was made for ",
           to_string(exported.manifest().dtype));
}

// The graphs of this model have exactly the parameters that the export has.
void check_parameters(const Graph& graph, std::span<const PreparedTensor> tensors, const std::string& folder) {
  std::map<std::string, const TensorType*> there;
  for (const PreparedTensor& tensor : tensors) there.emplace(tensor.name, &tensor.type);
  for (const Node& node : graph.nodes()) {
    if (!std::holds_alternative<ops::Parameter>(node.op)) continue;
    const TensorType& wanted = graph.type(node.results.front());
    const auto found = there.find(node.name);
    if (found == there.end() || !(*found->second == wanted))
      fail(ErrorCode::data_loss, folder, ": ", node.name, " is ",
           found == there.end() ? "absent" : to_string(*found->second), ", and this cajal reads ", to_string(wanted),
           remedy("export the model again"));
  }
}

}  // namespace

void Model::load_export(const std::string& folder, const ModelOptions& options) {
  exported_.emplace(folder);
  if (folder == folder_) check_wishes(options, *exported_);
  const Manifest& manifest = exported_->manifest();
  if (manifest.target != backend_.target()) fail_other_target(manifest.target, backend_.target());
  check_kv_cache_dtype(options.kv_cache_dtype, backend_.target());
  recipe_ = exported_->recipe();
  recipe_.graph.kv_cache_dtype = options.kv_cache_dtype;
  mapped_.emplace(exported_->open_weights(backend_.ranks()));
  check_parameters(graph(Bucket{}), mapped_->tensors(), folder);
  mapped_->verify(backend_.host_threads());
  bool reads_pages = true;
  for (std::size_t i = 0; i < mapped_->tensors().size(); ++i) {
    const auto bytes = mapped_->bytes(i);
    auto& buffer = parameters_[mapped_->tensors()[i].name];
    buffer = backend_.adopt(bytes);
    if (!buffer) {
      buffer = backend_.allocate(bytes.size());
      buffer->upload(bytes, 0);
      reads_pages = false;
    }
    weight_bytes_ += bytes.size();
  }
  if (!reads_pages) mapped_.reset();
  if (folder != folder_) exported_.reset();  // it says nothing of what this model may do
}

std::uint64_t Model::free_bytes() const {
  const RankLeader* const leader = on_all_ranks_.leader();
  return std::min<std::uint64_t>(backend_.free_bytes(), leader ? leader->least_free_bytes() : UINT64_MAX);
}

Buffer& Model::parameter(const std::string& name) const {
  const auto it = parameters_.find(name);
  CAJAL_CHECK(it != parameters_.end(), "no parameter '", name, "'");
  return *it->second;
}

}  // namespace cajal
