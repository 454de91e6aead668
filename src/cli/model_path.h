#pragma once
// From what the user calls a model to a folder.
#include <string>

#include "cli/options.h"
#include "engine/hub_cache.h"

namespace cajal::cli {

// As find_model(), and no name is the demo model; with `download` a name that the cache lacks is fetched first. UsageError
// if there is no demo model.
std::string resolve_model(const std::string& model, const Environment& environment, bool download = false);

}  // namespace cajal::cli
