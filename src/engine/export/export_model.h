#pragma once
// From a checkpoint to a folder that a target runs as it lies: graphs, plans and weights, made ahead of time and on any
// machine.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/model.h"
#include "models/neuron_config.h"

namespace cajal {

// What the graphs of an export are for, in Optimum Neuron's words.
enum class ExportTask {
  automatic,           // feature_extraction for embedding models and for models without a head
  text_generation,     // tokens
  feature_extraction,  // vectors of texts: graphs of the kind `encoding`, and no head
};

struct ExportOptions {
  ModelOptions model;
  std::string output;          // the folder; must not be there yet, or be empty
  std::string target = "cpu";  // see make_target
  NeuronConfigWish limits;
  ExportTask task = ExportTask::automatic;
  std::optional<std::string> checkpoint_id, checkpoint_revision;  // where the model comes from a hub
  int num_threads = 0;  // that plans are made for, and that work here; 0: the cores that this process may use
  // Called now and then with how much of the weights is written; what it throws ends the export.
  std::function<void(std::uint64_t done_bytes, std::uint64_t all_bytes)> on_progress;
};

struct ExportReport {
  Manifest manifest;
  NeuronConfig neuron_config;
  std::uint64_t weight_bytes = 0, kv_cache_bytes = 0, arena_bytes = 0;  // that a rank runs in
};

// Writes into a folder beside `output`, which it renames when everything is there: whatever happens before, `output` is not
// half there, and what was written is removed. Takes memory for the largest parameter and little more. Throws Error for a
// target or limits that make no sense, a checkpoint that is not one, and what the system says of the folder.
ExportReport export_model(const ExportOptions& options);

}  // namespace cajal
