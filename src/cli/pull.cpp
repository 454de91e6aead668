// cajal pull: a model from the hub into the cache.
#include "cli/pull.h"

#include <iostream>
#include <utility>

#include "cli/commands.h"
#include "cli/tables.h"
#include "cli/usage_error.h"
#include "hub/hub_settings.h"

namespace cajal::cli {

DownloadDisplay::DownloadDisplay(std::string name) : name_(std::move(name)), terminal_(is_terminal(std::cerr)) {}

DownloadDisplay::~DownloadDisplay() {
  if (terminal_) std::cerr << "\r\033[K" << std::flush;
}

void DownloadDisplay::show(const DownloadProgress& p) const {
  throw_if_interrupted();
  if (!terminal_) return;
  std::cerr << "\r\033[K" << name_ << ": " << p.files_done << " of " << p.files << " files, "
            << human_bytes(static_cast<double>(p.bytes_done)) << " of " << human_bytes(static_cast<double>(p.bytes))
            << std::flush;
}

void run_pull(CommandContext& context) {
  const Options& o = context.options;
  if (o.common.model.empty()) misuse("no NAME is given", remedy("name a model on the hub, such as Qwen/Qwen3-0.6B"));
  const HubSettings hub = hub_settings(context.environment);
  DownloadRequest request{.name = o.common.model};
  if (!o.revision.empty()) request.revision = o.revision;
  DownloadProgress last;
  std::string folder;
  {
    const DownloadDisplay display(request.name);
    request.on_progress = [&](const DownloadProgress& progress) {
      last = progress;
      display.show(progress);
    };
    folder = download_model(hub, request);
  }
  if (!o.json) return context.out.write(folder + "\n");
  const Json report(Json::Object{{"model", request.name},
                                 {"revision", request.revision},
                                 {"folder", folder},
                                 {"files", static_cast<std::uint64_t>(last.files)},
                                 {"bytes", last.bytes}});
  context.out.write(to_json(report) + "\n");
}

}  // namespace cajal::cli
