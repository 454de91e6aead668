#pragma once
// A folder that `cajal export` made, opened: nothing of it is believed until it adds up to its manifest.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/prepared_weights.h"
#include "checkpoint/weight_layout.h"
#include "compiler/manifest.h"
#include "distributed/ranks.h"
#include "engine/model_recipe.h"
#include "models/neuron_config.h"

namespace cajal {

// Whether the folder says that it is one: then it is none of Hugging Face's, whatever else lies there.
bool is_export(const std::string& folder);
// What the folder says of itself; none of its other files is looked at.
Manifest read_manifest(const std::string& folder);
// How many ranks run an export, and how they share its layers: an export carries its degrees.
ParallelDegrees degrees_of_export(const std::string& folder);

Parallelism parallelism_of(const NeuronConfig& config);
// The place of a rank, in the order of ParallelDegrees, among those that share its layers.
TensorParallelRank tensor_parallel_rank(const NeuronConfig& config, int rank);

class ExportFolder {
 public:
  // Reads everything but graphs and weights. Error(data_loss) names the file that is missing or was changed, with what was
  // found and what was expected; Error(unsupported) what only another version of cajal can read.
  explicit ExportFolder(const std::string& folder);

  const std::string& path() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }
  const NeuronConfig& neuron_config() const { return neuron_config_; }
  const ModelRecipe& recipe() const { return recipe_; }

  // The prepared graph of a bucket that the export has, with all outputs that it has; nothing for other buckets.
  // Error(data_loss) if it is not a graph of this model and bucket.
  std::optional<Graph> graph(const Bucket& bucket) const;
  // The weights of a rank, not yet verified. Error(data_loss) names a rank that is missing.
  PreparedWeights open_weights(int rank) const;
  // Those of the rank that `ranks` is the view of; null: there is one. Error(invalid_argument) with both degrees where the
  // export was made for other ranks than there are.
  PreparedWeights open_weights(const RankGroups* ranks) const;

 private:
  std::string read_checked(const ExportedFile& file) const;
  const ExportedFile& entry(const std::string& name) const;
  void check_agreement() const;
  void check_interface(const Graph& graph, const ExportedGraph& of) const;

  std::string folder_;
  Manifest manifest_;
  NeuronConfig neuron_config_;
  ModelRecipe recipe_;
};

}  // namespace cajal
