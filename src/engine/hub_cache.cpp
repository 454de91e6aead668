#include "engine/hub_cache.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;
using Environment = std::map<std::string, std::string>;

std::string variable(const Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  return found == environment.end() ? "" : found->second;
}

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

std::string read_revision(const std::string& file) {
  std::string revision = read_file(file, 4096);
  while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back()))) revision.pop_back();
  return revision;
}

}  // namespace

bool is_hub_name(std::string_view name) {
  const auto allowed = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("-_./").find(c) != std::string_view::npos;
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), allowed) &&
         std::count(name.begin(), name.end(), '/') <= 1 && name.find("..") == std::string_view::npos &&
         std::string_view("./-").find(name.front()) == std::string_view::npos && name.back() != '/';
}

std::string hub_folder_name(const std::string& name) {
  std::string folder = "models--" + name;
  if (const std::size_t slash = folder.find('/'); slash != std::string::npos) folder.replace(slash, 1, "--");
  return folder;
}

std::string find_revision(const std::string& name, const std::string& revision, const std::string& cache) {
  const std::string root = cache + "/" + hub_folder_name(name);
  const Remedy how = remedy("download it with 'cajal pull ", name, "', or name a folder that holds it");
  if (!is_folder(root)) fail(ErrorCode::not_found, name, ": no folder of that name, and nothing at ", root, how);
  if (std::string commit = root + "/snapshots/" + revision; is_folder(commit)) return commit;
  const std::string ref = root + "/refs/" + revision;
  if (!file_exists(ref))
    fail(ErrorCode::not_found, name, ": the cache has it without the revision ", revision, " (no file ", ref, ")", how);
  std::string snapshot = root + "/snapshots/" + read_revision(ref);
  if (!is_folder(snapshot))
    fail(ErrorCode::not_found, name, ": ", ref, " names a revision that is not there: ", snapshot, how);
  return snapshot;
}

std::string hub_home(const Environment& environment) {
  if (std::string home = variable(environment, "HF_HOME"); !home.empty()) return home;
  if (const std::string cache = variable(environment, "XDG_CACHE_HOME"); !cache.empty()) return cache + "/huggingface";
  return variable(environment, "HOME") + "/.cache/huggingface";
}

std::string hub_cache_folder(const Environment& environment) {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (std::string folder = variable(environment, name); !folder.empty()) return folder;
  return hub_home(environment) + "/hub";
}

std::string find_model(const std::string& model, const Environment& environment) {
  if (is_folder(model)) return model;
  if (std::error_code ignored; fs::exists(model, ignored))
    fail(ErrorCode::not_found, model, ": is a file, expected a folder with a model",
         remedy("name the folder that holds it"));
  if (!is_hub_name(model))
    fail(ErrorCode::not_found, model, ": no such folder",
         remedy("check the path; a model on the hub is called org/name"));
  return find_revision(model, "main", hub_cache_folder(environment));
}

}  // namespace cajal
