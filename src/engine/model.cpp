#include "engine/model.h"

#include "base/file.h"
#include "base/log.h"
#include "checkpoint/dummy_weights.h"
#include "checkpoint/loader.h"
#include "checkpoint/tied_embeddings.h"
#include "compiler/passes.h"

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

namespace {

// A configuration that names no type leaves it to the weights, as Transformers' dtype="auto" does.
DType stored_dtype(const Qwen3Config& config, const Checkpoint* checkpoint) {
  if (config.has_dtype || !checkpoint) return config.dtype;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
    if (const auto found = checkpoint->find(name))
      if (const auto dtype = found->tensor->dtype->dtype;
          dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16)
        return *dtype;
  return config.dtype;
}

}  // namespace

Model::Model(const ModelOptions& options, Backend& backend)
    : folder_(options.folder),
      backend_(backend),
      config_(load_config(options.folder, options.config_overrides)),
      generation_config_(load_generation_config(options.folder)) {
  const auto start = std::chrono::steady_clock::now();
  std::optional<Checkpoint> checkpoint;
  if (options.load_format != LoadFormat::dummy) checkpoint.emplace(folder_);
  dtype_ = choose_dtype(stored_dtype(config_, checkpoint ? &*checkpoint : nullptr), options.dtype);
  load_weights(options, checkpoint ? &*checkpoint : nullptr);
  load_time_ = std::chrono::steady_clock::now() - start;
}

Graph Model::graph(const Bucket& bucket, const Qwen3Outputs& outputs) const {
  if (outputs.logits && !has_lm_head())
    fail(ErrorCode::unsupported, folder_, ": the checkpoint has no output head (lm_head.weight), so it gives no logits",
         remedy("it is a base model, good for 'cajal embed'; to generate use a Qwen3ForCausalLM checkpoint"));
  Qwen3GraphOptions options = graph_options_;
  options.bucket = bucket;
  // How a weight is stored depends on all of its uses: an embedding that is the head too is not stored as one that is not.
  // So every graph is prepared with what the weights were loaded for, and loses what is not wanted afterwards.
  const Qwen3Outputs& loaded = graph_options_.outputs;
  options.outputs = {.logits = loaded.logits,
                     .last_hidden_state = loaded.last_hidden_state || outputs.last_hidden_state};
  Graph graph = backend_.prepare(build_qwen3(config_, options));
  if (options.outputs == outputs) return graph;
  std::vector<Value> wanted;
  if (outputs.logits) wanted.push_back(graph.outputs()[0]);
  if (outputs.last_hidden_state) wanted.push_back(graph.outputs().back());
  graph.set_outputs(std::move(wanted));
  return eliminate_dead_code(graph);
}

void Model::load_weights(const ModelOptions& options, const Checkpoint* checkpoint) {
  graph_options_.dtype = dtype_;
  graph_options_.outputs = options.outputs;
  const bool headless = config_.base_model && !config_.tie_word_embeddings;
  if (headless && !(checkpoint && checkpoint->find(graph_options_.lm_head_tensor)))
    graph_options_.outputs = {.logits = false, .last_hidden_state = true};
  if (checkpoint) {
    const EmbeddingSources sources = resolve_tied_embeddings(*checkpoint, config_.tie_word_embeddings);
    graph_options_.embedding_tensor = sources.embedding;
    graph_options_.lm_head_tensor = sources.head;
  } else if (config_.tie_word_embeddings) {
    graph_options_.lm_head_tensor = graph_options_.embedding_tensor;
  }
  // Every bucket's graph has the same parameters; the smallest is the quickest to build.
  const Graph graph = this->graph(Bucket{});
  DeviceSink sink(backend_, parameters_);
  Staging staging(backend_.host_threads());
  weight_bytes_ = checkpoint ? load_all(*checkpoint, graph, {}, sink, staging)
                             : fill_all_dummy(graph, {}, options.dummy_seed, sink, staging);
  sink.wait();
}

Buffer& Model::parameter(const std::string& name) const {
  const auto it = parameters_.find(name);
  CAJAL_CHECK(it != parameters_.end(), "no parameter '", name, "'");
  return *it->second;
}

}  // namespace cajal
