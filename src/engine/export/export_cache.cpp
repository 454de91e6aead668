#include "engine/export/export_cache.h"

#include <algorithm>
#include <filesystem>

#include "base/checksum.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/export/export_model.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

fs::path exports_of(const std::string& cache) { return fs::path(cache) / "exports"; }

// Names, sizes and times of the weights' files: whoever changes one changes these.
std::string state_of_files(const std::string& folder) {
  std::vector<std::string> states;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with("model") || name.find(".safetensors") == std::string::npos) continue;
    std::error_code ignored;
    const auto time = fs::last_write_time(at->path(), ignored).time_since_epoch().count();
    states.push_back(detail::join(name, ":", fs::file_size(at->path(), ignored), ":", time));
  }
  std::sort(states.begin(), states.end());
  std::string text;
  for (const std::string& state : states) text += state + "\n";
  return text;
}

// What the export depends on, in one number.
std::string key_of(const ModelOptions& o, const std::string& target) {
  std::error_code ignored;
  const std::string folder = fs::weakly_canonical(o.folder, ignored).string();
  return checksum_text(
      checksum(detail::join("cajal ", CAJAL_VERSION, "\nformat ", kExportFormatVersion, "\n", folder, "\n", target,
                            "\n", o.dtype ? to_string(*o.dtype) : "auto", "\n", to_string(o.quantization), "\n",
                            o.outputs.logits, o.outputs.last_hidden_state, "\n", to_json(o.config_overrides), "\n",
                            read_file(o.folder + "/config.json"), "\n", state_of_files(o.folder))));
}

std::uint64_t bytes_in(const fs::path& folder) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (at->is_regular_file(ignored)) bytes += at->file_size(ignored);
  }
  return bytes;
}

}  // namespace

std::string cache_folder(const std::map<std::string, std::string>& environment) {
  const auto variable = [&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? std::string() : found->second;
  };
  if (std::string own = variable("CAJAL_CACHE_DIR"); !own.empty()) return own;
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache + "/cajal";
  if (const std::string home = variable("HOME"); !home.empty()) return home + "/.cache/cajal";
  fail(ErrorCode::not_found, "there is no place for cajal's cache", remedy("set CAJAL_CACHE_DIR to a folder"));
}

std::string cached_export(const ModelOptions& options, const std::string& target, const std::string& cache,
                          int num_threads) {
  std::string folder = (exports_of(cache) / key_of(options, target)).string();
  if (is_export(folder)) return folder;
  log_info("keeping an export of ", options.folder, " in ", folder);
  ExportOptions wanted{.model = options, .output = folder, .target = target, .num_threads = num_threads};
  wanted.limits.sequence_length = 1;  // of its graphs none is used
  wanted.task = options.outputs.logits ? ExportTask::text_generation : ExportTask::feature_extraction;
  try {
    export_model(wanted);
  } catch (const Error&) {
    if (!is_export(folder)) throw;  // else another process was quicker
  }
  return folder;
}

std::vector<CachedExport> list_cache(const std::string& cache) {
  std::vector<CachedExport> exports;
  std::error_code error;
  for (fs::directory_iterator at(exports_of(cache), error), end; !error && at != end; at.increment(error)) {
    CachedExport entry{at->path().string(), {}, {}, bytes_in(at->path())};
    try {
      const Manifest manifest = read_manifest(entry.folder);
      entry.model = manifest.source;
      entry.target = manifest.target;
    } catch (const Error&) {  // damaged, or being written
    }
    exports.push_back(std::move(entry));
  }
  std::sort(exports.begin(), exports.end(),
            [](const auto& a, const auto& b) { return std::tie(a.model, a.folder) < std::tie(b.model, b.folder); });
  return exports;
}

void clean_cache(const std::string& cache) {
  for (const CachedExport& entry : list_cache(cache)) {
    std::error_code error;
    fs::remove_all(entry.folder, error);
    if (error) fail(ErrorCode::unavailable, entry.folder, ": cannot be removed: ", error.message());
  }
}

}  // namespace cajal
