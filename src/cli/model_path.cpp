#include "cli/model_path.h"

#include <filesystem>
#include <vector>

#include "base/file.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

namespace fs = std::filesystem;

std::string variable(const Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  return found == environment.end() ? "" : found->second;
}

// Empty if there is none.
std::string demo_model(const Environment& environment) {
  std::vector<std::string> candidates;
  if (const std::string given = variable(environment, "CAJAL_DEMO_MODEL"); !given.empty()) {
    candidates.push_back(given);
  } else {
    std::error_code failed;
    const fs::path program = fs::read_symlink("/proc/self/exe", failed);
    if (failed) return {};
    const fs::path prefix = program.parent_path().parent_path();
    candidates.push_back(prefix / "share/cajal/demo-model");          // bin/cajal
    candidates.push_back(prefix.parent_path() / "share/demo-model");  // build/release/cajal
  }
  for (const std::string& folder : candidates)
    if (file_exists(folder + "/config.json")) return folder;
  return {};
}

}  // namespace

std::string resolve_model(const std::string& model, const Environment& environment) {
  if (model.empty()) {
    if (std::string folder = demo_model(environment); !folder.empty()) return folder;
    misuse("no MODEL is given, and the demo model is not there",
           remedy("name a folder with a model, or one in the Hugging Face cache such as Qwen/Qwen3-0.6B"));
  }
  return find_model(model, environment);
}

}  // namespace cajal::cli
