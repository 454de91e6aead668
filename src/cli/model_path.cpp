#include "cli/model_path.h"

#include "cli/usage_error.h"
#include "engine/demo_model.h"

namespace cajal::cli {

std::string resolve_model(const std::string& model, const Environment& environment) {
  if (model.empty()) {
    if (std::string folder = find_demo_model(environment); !folder.empty()) return folder;
    misuse("no MODEL is given, and the demo model is not there",
           remedy("name a folder with a model, or one in the Hugging Face cache such as Qwen/Qwen3-0.6B"));
  }
  return find_model(model, environment);
}

}  // namespace cajal::cli
