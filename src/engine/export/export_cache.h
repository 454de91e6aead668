#pragma once
// Exports that cajal keeps for models that run straight from their checkpoints: converted and packed once, loaded at once
// from then on. Only their weights are used, so a model keeps all its freedom of limits.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/model.h"

namespace cajal {

// CAJAL_CACHE_DIR, else XDG_CACHE_HOME/cajal, else ~/.cache/cajal.
std::string cache_folder(const std::map<std::string, std::string>& environment);

// The cache's export of a model for a target, made if it is not there. Another target, dtype, quantization, version of
// cajal, or a checkpoint or configuration that was changed, is another export. Error as export_model's.
std::string cached_export(const ModelOptions& options, const std::string& target, const std::string& cache,
                          int num_threads);

struct CachedExport {
  std::string folder, model, target;  // `model` is the folder that it was made from
  std::uint64_t bytes = 0;
};
// By the model's name. What is damaged is there too, without model and target.
std::vector<CachedExport> list_cache(const std::string& cache);
// Removes what list_cache names, and what is half there.
void clean_cache(const std::string& cache);

}  // namespace cajal
