#pragma once
// neuron_config.json: the limits that a model is exported for, in the file that Optimum Neuron 0.4 writes for its
// NxDNeuronConfig. Files of either side are read as they are; what only we need stands in the export's manifest.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "graph/bucket.h"
#include "models/qwen3_config.h"
#include "tensor/dtype.h"

namespace cajal {

inline constexpr const char* kNeuronConfigFile = "neuron_config.json";

// All fields under their own names, with Optimum Neuron's defaults. Where the file leaves out or nulls a length that
// follows from another, it is filled in: max_batch_size, n_active_tokens, max_context_length, local_ranks_size.
struct NeuronConfig {
  std::int64_t batch_size = 1;            // sequences that run side by side
  std::optional<double> capacity_factor;  // of experts: absent is dropless, as Hugging Face computes
  std::optional<std::string> checkpoint_id, checkpoint_revision;  // of a hub; absent: a local folder
  bool continuous_batching = false;
  std::int64_t ep_degree = 1;
  bool fused_qkv = false;
  bool glu_mlp = true;
  std::int64_t local_ranks_size = 1;
  std::int64_t max_batch_size = 1;
  std::int64_t max_context_length = 128;  // tokens of a prompt that is encoded at once
  std::int64_t max_topk = 256;            // candidates of on-device sampling
  std::int64_t n_active_tokens = 128;
  bool on_device_sampling = false;
  bool output_logits = false;
  std::int64_t pp_degree = 1;
  std::int64_t prefill_chunk_size = 0;  // 0: prompts are encoded whole
  std::int64_t sequence_length = 128;   // tokens of a sequence, prompt and answer
  std::int64_t speculation_length = 0;  // rows that one pass validates; 0: none
  std::int64_t start_rank_id = 0;
  std::optional<std::string> target;  // "trn1"; of ours "cpu-avx512", "sm_90"
  DType torch_dtype = DType::bf16;
  std::int64_t tp_degree = 1;

  // The stamps: the form of the file, who wrote it, and the compiler.
  std::string serialized_key = "NxDNeuronConfig";
  std::string optimum_neuron_version = "0.4.6.dev4";  // whose form we write
  std::string neuronxcc_version;

  std::int64_t world_size() const { return tp_degree * pp_degree * ep_degree; }
  bool operator==(const NeuronConfig&) const = default;
};

// Reads a parsed file; `file` is what errors call it. Throws Error(data_loss) for a missing stamp, an unknown field and a
// value that makes no sense, Error(unsupported) for the configuration of another kind of model, and what
// check_neuron_config says.
NeuronConfig read_neuron_config(const Json& config, std::string_view file);
// As Optimum Neuron writes it: every field, nulls included, sorted, two spaces, a newline at the end.
std::string to_json_text(const NeuronConfig& config);

// What contradicts itself, whoever made it. Error(invalid_argument), in Optimum Neuron's words where it has some.
void check_neuron_config(const NeuronConfig& config, std::string_view where);

// What an export is asked for; absent is Optimum Neuron's choice, but for output_logits.
struct NeuronConfigWish {
  std::optional<std::int64_t> batch_size, sequence_length, max_context_length, prefill_chunk_size, speculation_length;
  std::optional<std::int64_t> tp_degree, ep_degree, max_topk;
  std::optional<double> capacity_factor;
  std::optional<bool> on_device_sampling, output_logits;
  bool encodes = false;  // vectors of texts instead of tokens
};
// The configuration of a new export. Where nothing is asked for: a batch of 1, sequences of max_position_embeddings but at
// most 4096, chunks of 1024 where sequences are longer than that and nothing is speculated, on-device sampling where it
// goes with the rest, and logits too, so that whatever asks for log-probabilities has them.
// Throws what check_neuron_config says, naming the flags, and Error(invalid_argument) for sampling or speculation where
// texts are only encoded.
NeuronConfig make_neuron_config(const NeuronConfigWish& wish, const Qwen3Config& model, DType dtype);

// What an engine that runs such an export is limited to.
BucketLimits limits_of(const NeuronConfig& config);

}  // namespace cajal
