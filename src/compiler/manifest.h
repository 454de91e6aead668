#pragma once
// cajal_export.json: what an export folder holds, for which machine, and the checksums of all of it. The limits that users
// set stand in neuron_config.json; here is what only we need.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/quantize_weights.h"
#include "graph/bucket.h"
#include "tensor/tensor.h"

namespace cajal {

inline constexpr const char* kManifestFile = "cajal_export.json";
inline constexpr int kExportFormatVersion = 2;  // of the folder: files, graph text, storages

struct ExportedFile {
  std::string name;  // in the folder, "graphs/token_generation_1.txt"
  std::uint64_t bytes = 0, checksum = 0;
  bool operator==(const ExportedFile&) const = default;
};

// A prepared graph as text. Its file is one of `files`.
struct ExportedGraph {
  GraphKind kind = GraphKind::token_generation;
  Bucket bucket;
  std::string file;
  std::uint64_t arena_bytes = 0;  // as planned for Manifest::num_threads
  bool operator==(const ExportedGraph&) const = default;
};

struct ExportedTensor {
  std::string name;  // of the graphs' parameter
  TensorType type;   // as it lies in the file
  std::uint64_t checksum = 0;
  bool operator==(const ExportedTensor&) const = default;
};

// The weights of one rank.
struct ExportedWeights {
  std::string file;
  std::uint64_t bytes = 0;  // of the file
  std::vector<ExportedTensor> tensors;
  bool operator==(const ExportedWeights&) const = default;
};

struct Manifest {
  std::string cajal_version, target;
  DType dtype = DType::bf16;                      // of weights, activations and cache
  bool logits = true, last_hidden_state = false;  // what the graphs give
  std::string embedding_tensor, lm_head_tensor;   // the checkpoint's names; one for both is a tied model
  QuantizationRecipe quantization = {};
  int num_threads = 1;                   // that the plans are made for
  std::uint64_t kv_bytes_per_block = 0;  // of the cache on a rank, over all layers
  std::string source;                    // the folder that it was made from, for people; may be empty
  std::vector<ExportedFile> files;       // but the weights' and this one
  std::vector<ExportedGraph> graphs;
  std::vector<ExportedWeights> ranks;  // one for each

  int world_size() const { return static_cast<int>(ranks.size()); }
  bool operator==(const Manifest&) const = default;
};

std::string to_json_text(const Manifest& manifest);
// `what` names the file in messages. Throws Error(unsupported) for another format version, with both numbers, and
// Error(data_loss) for anything that to_json_text does not write.
Manifest parse_manifest(std::string_view text, std::string_view what);

}  // namespace cajal
