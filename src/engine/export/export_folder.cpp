#include "engine/export/export_folder.h"

#include <algorithm>
#include <map>

#include "base/checked.h"
#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"
#include "compiler/check_regions.h"

namespace cajal {
namespace {

constexpr const char* kDamaged = "copy the export again, or export the model again";

std::string in_folder(const std::string& folder, const std::string& name) { return folder + "/" + name; }

// What the engine fills, reads and allocates by name: with the wrong shape there it would leave a buffer's bounds.
using Interface = std::map<std::string, TensorType>;
Interface interface_of(const Graph& graph) {
  Interface leaves;
  for (const Node& node : graph.nodes()) {
    const bool is_io = std::holds_alternative<ops::Input>(node.op) || std::holds_alternative<ops::State>(node.op);
    if (!is_io) continue;
    TensorType type = graph.type(node.results[0]);
    type.storage = Plain{};  // a state's is the kernels' business
    leaves.emplace(node.name, type);
  }
  for (std::size_t i = 0; i < graph.outputs().size(); ++i)
    leaves.emplace(detail::join("output ", i), graph.type(graph.outputs()[i]));
  return leaves;
}

}  // namespace

bool is_export(const std::string& folder) { return file_exists(in_folder(folder, kManifestFile)); }

Manifest read_manifest(const std::string& folder) {
  const std::string path = in_folder(folder, kManifestFile);
  return parse_manifest(read_file(path, std::uint64_t{1} << 28), path);
}

namespace {

NeuronConfig read_limits(std::string_view text, const std::string& path) {
  return read_neuron_config(parse_json(text, path), path);
}

}  // namespace

ParallelDegrees degrees_of_export(const std::string& folder) {
  const std::string path = in_folder(folder, kNeuronConfigFile);
  const Parallelism parallel = parallelism_of(read_limits(read_file(path), path));
  return {parallel.tensor_parallel_size, parallel.expert_parallel_size};
}

Parallelism parallelism_of(const NeuronConfig& config) {
  if (config.pp_degree != 1)
    fail(ErrorCode::unsupported, "pp_degree is ", config.pp_degree, ": no rank runs a part of the layers alone",
         remedy("share layers out, with --tensor-parallel-size"));
  return {checked_cast<int>(config.tp_degree, "tp_degree"), checked_cast<int>(config.ep_degree, "ep_degree")};
}

TensorParallelRank tensor_parallel_rank(const NeuronConfig& config, int rank) {
  const Parallelism parallel = parallelism_of(config);
  const ParallelDegrees degrees{parallel.tensor_parallel_size, parallel.expert_parallel_size};
  return {degrees.tensor_rank(rank), degrees.tensor, degrees.expert_rank(rank), degrees.expert};
}

ExportFolder::ExportFolder(const std::string& folder) : folder_(folder), manifest_(read_manifest(folder)) {
  for (const ExportedFile& file : manifest_.files)
    if (!file.name.starts_with("graphs/")) read_checked(file);
  const std::string config = in_folder(folder, kNeuronConfigFile);
  neuron_config_ = read_limits(read_checked(entry(kNeuronConfigFile)), config);
  const std::string model_config = in_folder(folder, "config.json");
  recipe_.config = read_qwen3_config(parse_json(read_checked(entry("config.json")), model_config), model_config);
  recipe_.quantization = manifest_.quantization;
  recipe_.graph.dtype = manifest_.dtype;
  recipe_.graph.parallel = parallelism_of(neuron_config_);
  recipe_.graph.embedding_tensor = manifest_.embedding_tensor;
  recipe_.graph.lm_head_tensor = manifest_.lm_head_tensor;
  recipe_.graph.capacity_factor = neuron_config_.capacity_factor;
  recipe_.graph.outputs = {.logits = manifest_.logits, .last_hidden_state = manifest_.last_hidden_state};
  check_agreement();
}

const ExportedFile& ExportFolder::entry(const std::string& name) const {
  const auto found = std::find_if(manifest_.files.begin(), manifest_.files.end(),
                                  [&](const ExportedFile& file) { return file.name == name; });
  if (found == manifest_.files.end())
    fail(ErrorCode::data_loss, in_folder(folder_, kManifestFile), ": '", name, "' is not among the files",
         remedy(kDamaged));
  return *found;
}

std::string ExportFolder::read_checked(const ExportedFile& file) const {
  const std::string path = in_folder(folder_, file.name);
  if (!file_exists(path)) fail(ErrorCode::data_loss, path, ": the file is missing from the export", remedy(kDamaged));
  std::string text = read_file(path);
  if (text.size() != file.bytes)
    fail(ErrorCode::data_loss, path, ": has ", text.size(), " bytes, expected ", file.bytes,
         ": the file was changed after the export", remedy(kDamaged));
  if (const std::uint64_t found = checksum(text); found != file.checksum)
    fail(ErrorCode::data_loss, path, ": has the checksum ", checksum_text(found), ", expected ",
         checksum_text(file.checksum), ": the file was changed after the export", remedy(kDamaged));
  return text;
}

void ExportFolder::check_agreement() const {
  const auto differ = [&](const char* key, const auto& config, const auto& manifest) {
    fail(ErrorCode::data_loss, in_folder(folder_, kNeuronConfigFile), ": ", key, " is ", config, ", and ",
         kManifestFile, " says ", manifest, remedy("export the model again"));
  };
  if (neuron_config_.target != manifest_.target)
    differ("target", neuron_config_.target.value_or("null"), manifest_.target);
  if (neuron_config_.world_size() != manifest_.world_size())
    differ("the world size (tp_degree x pp_degree x ep_degree)", neuron_config_.world_size(), manifest_.world_size());
  if (neuron_config_.torch_dtype != manifest_.dtype)
    differ("torch_dtype", to_string(neuron_config_.torch_dtype), to_string(manifest_.dtype));
}

// The model's own graph has the same inputs, states and outputs, whatever passes made of the rest.
void ExportFolder::check_interface(const Graph& graph, const ExportedGraph& of) const {
  const auto nothing = [](const Graph& built) { return built; };
  const Graph built = prepared_graph(recipe_, of.bucket, recipe_.graph.outputs, nothing);
  const Interface expected = interface_of(built), found = interface_of(graph);
  const auto differs = [&](const std::string& name) {
    const auto type = [&](const Interface& leaves) {
      const auto at = leaves.find(name);
      return at == leaves.end() ? std::string("absent") : to_string(at->second);
    };
    fail(ErrorCode::data_loss, in_folder(folder_, of.file), ": ", name, " is ", type(found), ", expected ",
         type(expected), " of this model and bucket", remedy(kDamaged));
  };
  for (const auto& [name, type] : expected)
    if (const auto at = found.find(name); at == found.end() || !(at->second == type)) differs(name);
  for (const auto& [name, type] : found)
    if (!expected.contains(name)) differs(name);
}

std::optional<Graph> ExportFolder::graph(const Bucket& bucket) const {
  for (const ExportedGraph& exported : manifest_.graphs) {
    if (!(exported.bucket == bucket)) continue;
    const std::string path = in_folder(folder_, exported.file);
    Graph graph = parse_graph(read_checked(entry(exported.file)), path);
    check_regions(graph, path);
    check_interface(graph, exported);
    return graph;
  }
  return std::nullopt;
}

PreparedWeights ExportFolder::open_weights(int rank) const {
  CAJAL_CHECK(rank >= 0 && rank < manifest_.world_size());
  const ExportedWeights& weights = manifest_.ranks[static_cast<std::size_t>(rank)];
  const std::string path = in_folder(folder_, weights.file);
  if (!file_exists(path))
    fail(ErrorCode::data_loss, path, ": the weights of rank ", rank, " of ", manifest_.world_size(), " are missing",
         remedy(kDamaged));
  std::vector<PreparedTensor> tensors;
  for (const ExportedTensor& tensor : weights.tensors) tensors.push_back({tensor.name, tensor.type, tensor.checksum});
  return {path, std::move(tensors)};
}

PreparedWeights ExportFolder::open_weights(const RankGroups* ranks) const {
  const int tensor = ranks ? ranks->tensor->size() : 1, expert = ranks ? ranks->expert->size() : 1;
  if (tensor != neuron_config_.tp_degree || expert != neuron_config_.ep_degree)
    fail(ErrorCode::invalid_argument, folder_, ": The model requires ", manifest_.world_size(), " ranks (tp_degree ",
         neuron_config_.tp_degree, " x ep_degree ", neuron_config_.ep_degree, ") but ", tensor * expert,
         tensor * expert == 1 ? " is" : " are", " available (", tensor, " x ", expert, ")",
         remedy("run it with --tensor-parallel-size ", neuron_config_.tp_degree, " --expert-parallel-size ",
                neuron_config_.ep_degree, ", or export it with ", tensor, " and ", expert));
  return open_weights(ranks ? ranks->world->rank() : 0);
}

}  // namespace cajal
