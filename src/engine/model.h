#pragma once
// A model in the memory of a device: its configuration, its weights, and the graphs that can be built of it.
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "backends/backend.h"
#include "compiler/quantize_weights.h"
#include "engine/export/export_folder.h"
#include "engine/model_recipe.h"
#include "engine/ranks/rank_leader.h"
#include "models/generation_config.h"
#include "models/qwen3.h"

namespace cajal {

enum class LoadFormat { automatic, dummy };

struct ModelOptions {
  std::string folder;
  std::optional<DType> dtype;  // absent: what the checkpoint is stored in
  LoadFormat load_format = LoadFormat::automatic;
  std::uint64_t dummy_seed = 0;
  QuantizationRecipe quantization = {};
  KvCacheDType kv_cache_dtype = KvCacheDType::automatic;
  Json config_overrides;  // an object whose keys replace those of config.json; or null
  // A folder with an export of this very model (see export_cache.h): its weights are taken instead of the checkpoint's, and
  // none of its limits. Empty: none.
  std::string prepared = {};
  // What graphs will be asked for: without logits the head's weights are not loaded.
  Qwen3Outputs outputs = {};
  std::optional<double> capacity_factor =
      {};  // of experts, as in Qwen3GraphOptions: with it tokens depend on what else runs
  // Where the backend is rank 0's of several: the other ranks load the model too. Must outlive it, and may be null only
  // where there are no others, or in_step.
  RankLeader* ranks = nullptr;
  bool in_step = false;  // the other ranks' code makes the same models and runners by itself
};

class Model {
 public:
  // Reads config.json, generation_config.json and the weights. The backend must outlive the model. Of an export the weights
  // are used as they lie; Error(unsupported) if it was made for another target, and Error(invalid_argument) for options
  // that it was not made for.
  Model(const ModelOptions& options, Backend& backend);

  const Qwen3Config& config() const { return recipe_.config; }
  const ModelRecipe& recipe() const { return recipe_; }
  const GenerationConfig& generation_config() const { return generation_config_; }
  const std::string& name() const { return folder_; }
  DType dtype() const { return recipe_.graph.dtype; }
  const Parallelism& parallel() const { return recipe_.graph.parallel; }
  const QuantizationRecipe& quantization() const { return recipe_.quantization; }
  KvCacheDType kv_cache_dtype() const { return recipe_.graph.kv_cache_dtype; }
  Backend& backend() const { return backend_; }

  // Whether it can give logits: not if it was loaded without them, or is a base model whose checkpoint has no head.
  bool has_lm_head() const { return recipe_.graph.outputs.logits; }
  // The graph of one bucket, as the backend prepared it: with the outputs that it was loaded for, or with others.
  // Error(unsupported) for logits without a head.
  Graph graph(const Bucket& bucket) const { return graph(bucket, recipe_.graph.outputs); }
  Graph graph(const Bucket& bucket, const Qwen3Outputs& outputs) const;
  Buffer& parameter(const std::string& name) const;

  // What it was loaded from, if that is an export: it says what the model may be asked for.
  const ExportFolder* exported() const { return exported_ ? &*exported_ : nullptr; }

  // The same model on the other ranks; nothing where there are none.
  const RankObject& on_all_ranks() const { return on_all_ranks_; }

  std::uint64_t weight_bytes() const { return weight_bytes_; }  // as stored on the device
  std::uint64_t free_bytes() const;                             // left there, for the rank that has least
  std::chrono::nanoseconds load_time() const { return load_time_; }

 private:
  void load(const ModelOptions& options);
  void load_checkpoint(const ModelOptions& options);
  void load_export(const std::string& folder, const ModelOptions& options);

  std::string folder_;
  Backend& backend_;
  GenerationConfig generation_config_;
  ModelRecipe recipe_;
  std::optional<ExportFolder> exported_;
  std::optional<PreparedWeights> mapped_;  // of an export, where the device reads the file's own pages
  std::map<std::string, std::unique_ptr<Buffer>> parameters_;
  std::uint64_t weight_bytes_ = 0;
  std::chrono::nanoseconds load_time_{};
  RankObject on_all_ranks_;
};

// config.json of a folder with overrides applied.
Qwen3Config load_config(const std::string& folder, const Json& overrides);
// The element type that a model of `stored` elements runs in: the wanted one or else its own; float16 runs as float32,
// which holds every value of it, because no backend computes in float16 yet.
DType choose_dtype(DType stored, std::optional<DType> wanted);

}  // namespace cajal
