#pragma once
// From what the user calls a model to a folder.
#include <string>

#include "cli/options.h"

namespace cajal::cli {

// Where Hugging Face's libraries keep models: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.
std::string hub_cache_folder(const Environment& environment);

// An existing folder is itself; a name such as Qwen/Qwen3-0.6B is looked up in the cache. Error(not_found) says where we
// looked; no name is the demo model: what CAJAL_DEMO_MODEL names, or
// else what lies beside the program, as installed or in a clone. UsageError if there is none.
std::string resolve_model(const std::string& model, const Environment& environment);

}  // namespace cajal::cli
