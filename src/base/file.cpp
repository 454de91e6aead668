#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"

namespace cajal {
namespace {

[[noreturn]] void fail_errno(const std::string& path, const char* doing) {
  const int code = errno;
  fail(code == ENOENT ? ErrorCode::not_found : ErrorCode::unavailable, path, ": ", doing, ": ", std::strerror(code));
}

}  // namespace

File::File(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) fail_errno(path, "cannot open");
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(std::exchange(fd_, -1));
    fail(ErrorCode::invalid_argument, path, ": not a regular file");
  }
  size_ = static_cast<std::uint64_t>(info.st_size);
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}
File::File(File&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}
File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

void File::read(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const std::size_t want = std::min<std::size_t>(into.size(), std::size_t{1} << 30);
    const ssize_t got = ::pread(fd_, into.data(), want, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno(path_, "cannot read");
    if (got == 0)
      fail(ErrorCode::data_loss, path_, ": the file ends at byte ", offset, ", ", into.size(), " bytes early",
           remedy("it was cut short while being read; download or copy it again"));
    into = into.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

std::string read_file(const std::string& path, std::uint64_t max_bytes) {
  const File file(path);
  if (file.size() > max_bytes)
    fail(ErrorCode::data_loss, path, ": ", file.size(), " bytes, expected at most ", max_bytes);
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

bool file_exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

void write_file(const std::string& path, std::string_view content) {
  // A name of this thread's own: others may be writing the same file.
  const std::string temporary = detail::join(path, ".partial-", ::gettid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) fail_errno(temporary, "cannot create");
  while (!content.empty()) {
    const ssize_t put = ::write(fd, content.data(), content.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      const int code = errno;
      ::close(fd);
      ::unlink(temporary.c_str());
      errno = code;
      fail_errno(temporary, "cannot write");
    }
    content.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::close(fd) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary.c_str());
    errno = code;
    fail_errno(path, "cannot write");
  }
}

}  // namespace cajal
