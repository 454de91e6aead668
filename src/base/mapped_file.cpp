#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace cajal {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info {};
  void* at = MAP_FAILED;
  const bool opened = fd >= 0 && ::fstat(fd, &info) == 0;
  if (opened && info.st_size > 0) {
    size_ = static_cast<std::size_t>(info.st_size);
    at = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
  }
  const int code = errno;
  if (fd >= 0) ::close(fd);
  if (at != MAP_FAILED) {
    data_ = static_cast<const std::byte*>(at);
    ::madvise(at, size_, MADV_HUGEPAGE);  // where the file system keeps its cache in large pieces
    ::madvise(at, size_, MADV_WILLNEED);
  } else if (!opened || size_ > 0) {
    fail(code == ENOENT ? ErrorCode::not_found : ErrorCode::unavailable, path, ": cannot map: ", std::strerror(code));
  }
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}
MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace cajal
