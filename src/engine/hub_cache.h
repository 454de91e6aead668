#pragma once
// Where the models lie that Hugging Face's tools have downloaded.
#include <map>
#include <string>

namespace cajal {

// Where Hugging Face's libraries keep models: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.
std::string hub_cache_folder(const std::map<std::string, std::string>& environment);

// The folder of a model: an existing folder is itself; a name such as Qwen/Qwen3-0.6B is looked up in the cache.
// Error(not_found) says where we looked.
std::string find_model(const std::string& model, const std::map<std::string, std::string>& environment);

}  // namespace cajal
