#include "hub/download.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "engine/hub_cache.h"
#include "hub/digest.h"
#include "hub/http_client.h"
#include "hub/repository.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

// An open file that others leave alone while we have it: the lock is the one that Hugging Face's libraries take.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : path_(path), fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) fail_with_errno("cannot be opened");
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int fd() const { return fd_; }
  void lock() const {
    while (::flock(fd_, LOCK_EX) != 0)
      if (errno != EINTR) fail_with_errno("cannot be locked");
  }
  std::uint64_t size() const {
    const off_t end = ::lseek(fd_, 0, SEEK_END);
    if (end < 0) fail_with_errno("cannot be read");
    return static_cast<std::uint64_t>(end);
  }
  void truncate() const {
    if (::ftruncate(fd_, 0) != 0 || ::lseek(fd_, 0, SEEK_SET) != 0) fail_with_errno("cannot be emptied");
  }
  void append(std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail_with_errno("cannot be written");
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }
  void sync() const {
    if (::fsync(fd_) != 0) fail_with_errno("cannot be written");
  }

 private:
  [[noreturn]] void fail_with_errno(const char* what) const {
    const std::string reason = std::strerror(errno);
    fail(errno == ENOSPC ? ErrorCode::out_of_memory : ErrorCode::not_found, path_.string(), ": ", what, ": ", reason,
         remedy("check the disk and its permissions, or choose another cache with HF_HUB_CACHE"));
  }

  fs::path path_;
  int fd_;
};

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    fail(ErrorCode::not_found, folder.string(), ": cannot be made: ", error.message(),
         remedy("choose another cache with HF_HUB_CACHE"));
}

// The digest that a checksum of this form needs; none for servers that name files in ways of their own.
std::optional<Digest> digest_for(const RemoteFile& file) {
  const bool hexadecimal = file.etag.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (hexadecimal && file.etag.size() == 64) return Digest::sha256();
  if (hexadecimal && file.etag.size() == 40) return Digest::git_blob(file.size);
  return std::nullopt;
}

// One model on its way into the cache.
class Download {
 public:
  Download(const HubSettings& hub, const DownloadRequest& request)
      : hub_(hub), request_(request), folder_(fs::path(hub.cache) / hub_folder_name(request.name)) {}

  std::string run();

 private:
  struct Wanted {
    RemoteFile file;
    bool present = false;
  };

  fs::path snapshot_path(const std::string& path) const { return folder_ / "snapshots" / commit_ / path; }
  fs::path blob_path(const RemoteFile& file) const { return folder_ / "blobs" / file.etag; }
  void plan(HttpClient& http, const Repository& repository);
  void check_space() const;
  void fetch_all();
  void fetch(HttpClient& http, const RemoteFile& file);
  void fetch_rest(HttpClient& http, const RemoteFile& file, const fs::path& incomplete);
  void check(const RemoteFile& file, const fs::path& path) const;
  void link(const RemoteFile& file) const;
  void write_ref() const;
  void report(std::int64_t bytes, std::size_t files);

  const HubSettings& hub_;
  const DownloadRequest& request_;
  fs::path folder_;
  std::string commit_;
  std::vector<Wanted> wanted_;
  std::mutex mutex_;  // of progress_ and failure_
  DownloadProgress progress_;
  std::exception_ptr failure_;
  std::atomic<bool> stopping_{false};
};

std::string Download::run() {
  HttpClient http;
  Repository repository;
  with_retries([&] { repository = ask_repository(http, hub_, request_.name, request_.revision); });
  commit_ = repository.commit;
  make_folders(folder_ / "blobs");
  make_folders(folder_ / "refs");
  make_folders(fs::path(hub_.cache) / ".locks" / folder_.filename());
  plan(http, repository);
  check_space();
  report(0, 0);
  fetch_all();
  if (failure_) std::rethrow_exception(failure_);
  write_ref();
  return (folder_ / "snapshots" / commit_).string();
}

void Download::plan(HttpClient& http, const Repository& repository) {
  bool has_config = false;
  for (const std::string& path : repository.files) {
    if (!is_model_file(path)) continue;
    has_config = has_config || path == "config.json";
    Wanted wanted;
    if (std::error_code none; fs::exists(snapshot_path(path), none)) {
      wanted.present = true;
      wanted.file.path = path;
      wanted.file.size = fs::file_size(snapshot_path(path), none);
    } else {
      with_retries([&] { wanted.file = ask_file(http, hub_, request_.name, commit_, path); });
    }
    progress_.files += 1;
    progress_.bytes += wanted.file.size;
    if (wanted.present) {
      progress_.files_done += 1;
      progress_.bytes_done += wanted.file.size;
    }
    wanted_.push_back(std::move(wanted));
  }
  if (!has_config)
    fail(ErrorCode::not_found, request_.name, ": has no config.json among its ", repository.files.size(), " files",
         remedy("name a repository in Hugging Face's format; GGUF files are not read"));
}

void Download::check_space() const {
  std::uint64_t needed = 0;
  for (const Wanted& wanted : wanted_) {
    if (wanted.present) continue;
    std::error_code none;
    fs::path begun = blob_path(wanted.file);
    if (!fs::exists(begun, none)) begun += ".incomplete";
    const std::uintmax_t there = fs::file_size(begun, none);
    needed += wanted.file.size - std::min<std::uint64_t>(none ? 0 : there, wanted.file.size);
  }
  struct statvfs disk {};
  if (::statvfs(folder_.c_str(), &disk) != 0) return;
  const std::uint64_t available = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (needed > available)
    fail(ErrorCode::out_of_memory, request_.name, ": ", needed, " bytes are still to come, and ", hub_.cache,
         " has room for ", available, remedy("free some, or choose another cache with HF_HUB_CACHE"));
}

void Download::fetch_all() {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    try {
      HttpClient http;
      while (!stopping_) {
        const std::size_t i = next++;
        if (i >= wanted_.size()) return;
        if (!wanted_[i].present) fetch(http, wanted_[i].file);
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      stopping_ = true;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < std::max(1, request_.connections); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}

void Download::fetch(HttpClient& http, const RemoteFile& file) {
  const fs::path lock_path = fs::path(hub_.cache) / ".locks" / folder_.filename() / (file.etag + ".lock");
  const Descriptor lock(lock_path, O_RDWR | O_CREAT);
  lock.lock();
  std::error_code none;
  if (!fs::exists(blob_path(file), none)) {
    fs::path incomplete = blob_path(file);
    incomplete += ".incomplete";
    with_retries([&] { fetch_rest(http, file, incomplete); });
    check(file, incomplete);
    std::error_code error;
    fs::rename(incomplete, blob_path(file), error);
    if (error) fail(ErrorCode::not_found, blob_path(file).string(), ": cannot be made: ", error.message());
  } else {
    report(static_cast<std::int64_t>(file.size), 0);
  }
  link(file);
  report(0, 1);
}

void Download::fetch_rest(HttpClient& http, const RemoteFile& file, const fs::path& incomplete) {
  const Descriptor out(incomplete, O_RDWR | O_CREAT);
  std::uint64_t have = out.size();
  if (have > file.size) {
    out.truncate();
    have = 0;
  }
  report(static_cast<std::int64_t>(have), 0);
  std::uint64_t counted = have;
  // What this try has counted is taken back if it fails: the next one counts what is there.
  try {
    if (have < file.size || file.size == 0) {
      const auto take = [&](const HttpAnswer& answer, std::span<const std::byte> bytes) {
        if (stopping_) return false;
        if (answer.status != 200 && answer.status != 206) return true;
        if (answer.status == 200 && have > 0) {  // the server begins anew
          out.truncate();
          report(-static_cast<std::int64_t>(counted), 0);
          have = counted = 0;
        }
        if (bytes.size() > file.size - counted) return false;
        out.append(bytes);
        counted += bytes.size();
        report(static_cast<std::int64_t>(bytes.size()), 0);
        return true;
      };
      const HttpAnswer answer = http.ask({.url = file.url, .token = hub_.token, .first_byte = have}, take);
      if (stopping_) fail(ErrorCode::unsupported, file.path, ": stopped");
      if (answer.status == 416) out.truncate();
      if (answer.status != 200 && answer.status != 206)
        fail(ErrorCode::unavailable, file.path, ": the hub answers ", answer.status, " (", file.url, ")",
             remedy("try again later: what has come is kept"));
    }
    if (counted != file.size)
      fail(ErrorCode::unavailable, file.path, ": ", counted, " of ", file.size, " bytes came (", file.url, ")",
           remedy("try again: what has come is kept"));
    out.sync();
  } catch (const Error&) {
    report(-static_cast<std::int64_t>(counted), 0);
    throw;
  }
}

void Download::check(const RemoteFile& file, const fs::path& path) const {
  std::optional<Digest> digest = digest_for(file);
  if (!digest) return;
  const File content(path.string());
  std::vector<std::byte> piece(std::size_t{1} << 20);
  for (std::uint64_t at = 0; at < content.size(); at += piece.size()) {
    const std::span<std::byte> part(piece.data(), std::min<std::uint64_t>(piece.size(), content.size() - at));
    content.read(at, part);
    digest->update(part);
  }
  const std::string found = digest->finish();
  if (found == file.etag) return;
  std::error_code none;
  fs::remove(path, none);
  fail(ErrorCode::data_loss, file.path, ": what came has the checksum ", found, ", expected ", file.etag, " (",
       file.url, ")", remedy("pull again: the damaged file is gone"));
}

void Download::link(const RemoteFile& file) const {
  const fs::path at = snapshot_path(file.path);
  make_folders(at.parent_path());
  std::error_code error;
  if (fs::exists(fs::symlink_status(at, error))) fs::remove(at, error);
  fs::create_symlink(fs::relative(blob_path(file), at.parent_path(), error), at, error);
  if (error) fail(ErrorCode::not_found, at.string(), ": cannot be made: ", error.message());
}

void Download::write_ref() const {
  if (request_.revision == commit_) return;
  const fs::path ref = folder_ / "refs" / request_.revision;
  make_folders(ref.parent_path());
  write_file(ref.string(), commit_);
}

void Download::report(std::int64_t bytes, std::size_t files) {
  const std::lock_guard lock(mutex_);
  progress_.bytes_done += static_cast<std::uint64_t>(bytes);
  progress_.files_done += files;
  if (request_.on_progress) request_.on_progress(progress_);
}

}  // namespace

bool is_model_file(std::string_view path) {
  const bool at_root = path.find('/') == std::string_view::npos;
  if (!at_root) return path.ends_with("/config.json") && std::count(path.begin(), path.end(), '/') == 1;
  if (path.ends_with(".safetensors")) return path.starts_with("model");
  return path.ends_with(".json") || path.ends_with(".jinja") || path == "merges.txt" || path == "vocab.txt";
}

std::string download_model(const HubSettings& hub, const DownloadRequest& request) {
  if (!is_hub_name(request.name))
    fail(ErrorCode::invalid_argument, "'", request.name, "' is not the name of a model",
         remedy("a model on the hub is called org/name"));
  if (request.revision.empty() || request.revision.front() == '-' || request.revision.find("..") != std::string::npos ||
      request.revision.front() == '/')
    fail(ErrorCode::invalid_argument, "'", request.revision, "' is not a revision",
         remedy("name a branch, a tag or a commit"));
  if (hub.offline) {
    try {
      return find_revision(request.name, request.revision, hub.cache);
    } catch (const Error& error) {
      fail(ErrorCode::not_found, error.message(), ", and HF_HUB_OFFLINE forbids asking the hub",
           remedy("unset HF_HUB_OFFLINE"));
    }
  }
  return Download(hub, request).run();
}

}  // namespace cajal
