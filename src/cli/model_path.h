#pragma once
// From what the user calls a model to a folder.
#include <string>

#include "cli/options.h"

namespace cajal::cli {

// Where Hugging Face's libraries keep models: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.
std::string hub_cache_folder(const Environment& environment);

// An existing folder is itself; a name such as Qwen/Qwen3-0.6B is looked up in the cache. Error(not_found) says where we
// looked; UsageError if there is no name: this version ships no demo model.
std::string resolve_model(const std::string& model, const Environment& environment);

}  // namespace cajal::cli
