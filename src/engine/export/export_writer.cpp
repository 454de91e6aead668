#include "engine/export/export_writer.h"

#include <signal.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/checksum.h"
#include "base/error.h"
#include "base/file.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPartial = ".partial-";

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

fs::path parent_of(const std::string& output) {
  const fs::path parent = fs::path(output).parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

// What an export left here that was killed: its process is gone.
void remove_abandoned(const std::string& output) {
  const std::string begin = fs::path(output).filename().string() + std::string(kPartial);
  std::error_code error;
  for (fs::directory_iterator at(parent_of(output), error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(begin)) continue;
    pid_t pid = 0;
    const char* digits = name.data() + begin.size();
    const auto [stop, failure] = std::from_chars(digits, name.data() + name.size(), pid);
    const bool is_pid = failure == std::errc() && stop == name.data() + name.size() && pid > 0;
    if (!is_pid || ::kill(pid, 0) == 0 || errno != ESRCH) continue;
    std::error_code ignored;
    fs::remove_all(at->path(), ignored);
  }
}

}  // namespace

ExportWriter::ExportWriter(std::string output) : output_(without_slashes(std::move(output))) {
  if (output_.empty()) fail(ErrorCode::invalid_argument, "the folder to export to is empty");
  std::error_code error;
  if (fs::exists(output_, error) && !(fs::is_directory(output_, error) && fs::is_empty(output_, error)))
    fail(ErrorCode::invalid_argument, output_, ": is there already", remedy("remove it, or name another folder"));
  const fs::path parent = parent_of(output_);
  fs::create_directories(parent, error);
  remove_abandoned(output_);
  temporary_ = detail::join(output_, kPartial, ::getpid());
  fs::create_directories(fs::path(temporary_) / "graphs", error);
  if (!error) fs::create_directories(fs::path(temporary_) / "weights", error);
  if (error)
    fail(ErrorCode::unavailable, temporary_, ": cannot make the folder: ", error.message(),
         remedy("choose a place that can be written to"));
}

ExportWriter::~ExportWriter() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void ExportWriter::need_room(std::uint64_t bytes) const {
  struct statvfs info {};
  if (::statvfs(temporary_.c_str(), &info) != 0) return;
  const std::uint64_t room = std::uint64_t{info.f_bavail} * info.f_frsize;
  if (room < bytes)
    fail(ErrorCode::unavailable, output_, ": the export takes ", bytes, " bytes, and the disk has room for ", room,
         remedy("make room on that disk, or write to another"));
}

void ExportWriter::write(const std::string& name, std::string_view text) {
  write_file(path(name), text);
  files_.push_back({name, text.size(), checksum(text)});
}

void ExportWriter::copy_if_there(const std::string& from_folder, const std::string& name) const {
  const std::string from = from_folder + "/" + name;
  if (!file_exists(from)) return;
  std::error_code ignored;
  fs::create_directories(fs::path(path(name)).parent_path(), ignored);
  write_file(path(name), read_file(from));
}

void ExportWriter::finish() {
  if (::rename(temporary_.c_str(), output_.c_str()) != 0)
    fail(ErrorCode::unavailable, output_, ": cannot rename ", temporary_, " to it: ", std::strerror(errno),
         remedy("remove what stands there, or name another folder"));
  temporary_.clear();
}

}  // namespace cajal
