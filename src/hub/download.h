#pragma once
// Brings a model from the hub into the cache that Hugging Face's libraries share: files under blobs/ by checksum,
// snapshots/<commit>/ with links to them, refs/<revision> with the commit. What those libraries downloaded is used, and they
// use what this downloads.
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "hub/hub_settings.h"

namespace cajal {

struct DownloadProgress {
  std::size_t files_done = 0, files = 0;
  std::uint64_t bytes_done = 0, bytes = 0;  // what the cache had before counts as done
};

struct DownloadRequest {
  std::string name;               // "Qwen/Qwen3-0.6B"
  std::string revision = "main";  // a branch, a tag or a commit
  int connections = 4;
  // From any thread, one at a time; may throw to end it, and then what has come stays for the next try.
  std::function<void(const DownloadProgress&)> on_progress;
};

// The snapshot's folder. Files are checked against the hub's checksums, taken up where an earlier try ended, and the
// revision is written last: a name that can be looked up is complete. Offline only the cache is looked at.
// Error(not_found, unavailable, data_loss, out_of_memory for a disk too small).
std::string download_model(const HubSettings& hub, const DownloadRequest& request);

// Whether a model needs this file of its repository: configuration, tokenizer, templates and model*.safetensors.
bool is_model_file(std::string_view path);

}  // namespace cajal
