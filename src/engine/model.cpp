#include "engine/model.h"

#include "base/file.h"
#include "base/log.h"
#include "checkpoint/dummy_weights.h"
#include "checkpoint/loader.h"
#include "checkpoint/tied_embeddings.h"

namespace cajal {
namespace {

// Gives every parameter a buffer of its own on the device, and the loader host memory to fill: the buffer itself where the
// host can write to it, else one that is uploaded when it is full.
class DeviceSink final : public WeightSink {
 public:
  DeviceSink(Backend& backend, std::map<std::string, std::unique_ptr<Buffer>>& into) : backend_(backend), into_(into) {}

  std::span<std::byte> destination(const std::string& name, const TensorType& type) override {
    Buffer& buffer = *(into_[name] = backend_.allocate(type.bytes()));
    if (auto view = buffer.host_view(); !view.empty()) return view;
    staging_.resize(type.bytes());
    return staging_;
  }
  void finished(const std::string& name) override {
    if (!staging_.empty()) into_[name]->upload(staging_, 0);
    staging_.clear();
  }

 private:
  Backend& backend_;
  std::map<std::string, std::unique_ptr<Buffer>>& into_;
  std::vector<std::byte> staging_;
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

DType choose_dtype(const Qwen3Config& config, std::optional<DType> wanted) {
  if (wanted == DType::f16)
    fail(ErrorCode::unsupported, "dtype float16 cannot be computed in yet", remedy("use --dtype float32, which holds every float16 value, or bfloat16"));
  const DType dtype = wanted.value_or(config.dtype);
  if (dtype != DType::f16) return dtype;
  log_warning("the checkpoint is float16, which cannot be computed in yet: running in float32");
  return DType::f32;
}

Model::Model(const ModelOptions& options, Backend& backend)
    : folder_(options.folder), backend_(backend), config_(load_config(options.folder, options.config_overrides)),
      generation_config_(load_generation_config(options.folder)), dtype_(choose_dtype(config_, options.dtype)) {
  const auto start = std::chrono::steady_clock::now();
  graph_options_.dtype = dtype_;
  load_weights(options);
  load_time_ = std::chrono::steady_clock::now() - start;
}

Graph Model::graph(const Bucket& bucket) const {
  Qwen3GraphOptions options = graph_options_;
  options.bucket = bucket;
  return backend_.prepare(build_qwen3(config_, options));
}

void Model::load_weights(const ModelOptions& options) {
  std::unique_ptr<Checkpoint> checkpoint;
  if (options.load_format == LoadFormat::dummy) {
    if (config_.tie_word_embeddings) graph_options_.lm_head_tensor = graph_options_.embedding_tensor;
  } else {
    checkpoint = std::make_unique<Checkpoint>(folder_);
    const EmbeddingSources sources = resolve_tied_embeddings(*checkpoint, config_.tie_word_embeddings);
    graph_options_.embedding_tensor = sources.embedding;
    graph_options_.lm_head_tensor = sources.head;
  }
  // Every bucket's graph has the same parameters; the smallest is the quickest to build.
  const Graph graph = this->graph(Bucket{});
  DeviceSink sink(backend_, parameters_);
  Staging staging(backend_.host_threads());
  weight_bytes_ = checkpoint ? load_all(*checkpoint, graph, {}, sink, staging) : fill_all_dummy(graph, {}, options.dummy_seed, sink, staging);
}

Buffer& Model::parameter(const std::string& name) const {
  const auto it = parameters_.find(name);
  CAJAL_CHECK(it != parameters_.end(), "no parameter '", name, "'");
  return *it->second;
}

}  // namespace cajal
