#pragma once
// From what the user calls a model to a folder.
#include <string>

#include "cli/options.h"
#include "engine/hub_cache.h"

namespace cajal::cli {

// As find_model(), and no name is the demo model. UsageError if there is none.
std::string resolve_model(const std::string& model, const Environment& environment);

}  // namespace cajal::cli
