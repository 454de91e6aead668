#pragma once
// A file as memory, read-only and shared with the system's cache of it: several processes that map one file hold it once,
// and pages that nobody needs are dropped and read again.
//
// What is mapped must not be changed or cut short meanwhile: a page that is no longer there ends the process. So only what
// cajal itself writes, whole and under a name that appears when it is done, is mapped; everything else goes through File.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace cajal {

class MappedFile {
 public:
  // Error(not_found) or (unavailable) names the path and the reason.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cajal
