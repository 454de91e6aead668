#pragma once
// Where the models lie that Hugging Face's tools have downloaded.
#include <map>
#include <string>
#include <string_view>

namespace cajal {

// Where Hugging Face's libraries keep what is theirs: HF_HOME, else XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface.
std::string hub_home(const std::map<std::string, std::string>& environment);
// Where Hugging Face's libraries keep models: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.
std::string hub_cache_folder(const std::map<std::string, std::string>& environment);

// "org/name" or "name" as the hub allows them.
bool is_hub_name(std::string_view name);

// What the cache calls the folder of a model: "models--org--name".
std::string hub_folder_name(const std::string& name);

// The snapshot of a revision (a branch, a tag or a commit) in `cache`; Error(not_found).
std::string find_revision(const std::string& name, const std::string& revision, const std::string& cache);

// The folder of a model: an existing folder is itself; a name such as Qwen/Qwen3-0.6B is looked up in the cache.
// Error(not_found) says where we looked.
std::string find_model(const std::string& model, const std::map<std::string, std::string>& environment);

}  // namespace cajal
