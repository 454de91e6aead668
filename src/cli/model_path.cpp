#include "cli/model_path.h"

#include <filesystem>
#include <system_error>

#include "cli/pull.h"
#include "cli/usage_error.h"
#include "engine/demo_model.h"
#include "hub/download.h"
#include "hub/hub_settings.h"

namespace cajal::cli {

namespace {

std::string fetch(const std::string& name, const Environment& environment) {
  DownloadRequest request{.name = name};
  const DownloadDisplay display(name);
  request.on_progress = [&](const DownloadProgress& progress) { display.show(progress); };
  return download_model(hub_settings(environment), request);
}

}  // namespace

std::string resolve_model(const std::string& model, const Environment& environment, bool download) {
  if (model.empty()) {
    if (std::string folder = find_demo_model(environment); !folder.empty()) return folder;
    misuse("no MODEL is given, and the demo model is not there",
           remedy("name a folder with a model, or one in the Hugging Face cache such as Qwen/Qwen3-0.6B"));
  }
  std::error_code none;
  if (!download || std::filesystem::exists(model, none) || !is_hub_name(model)) return find_model(model, environment);
  try {
    return find_model(model, environment);
  } catch (const Error&) {
    return fetch(model, environment);
  }
}

}  // namespace cajal::cli
