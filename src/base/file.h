#pragma once
// Files, read by offset. Reading is pread, never a mapping: a file that shrinks under us is an Error, not a signal.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace cajal {

class File {
 public:
  explicit File(const std::string& path);  // opens for reading; Error(not_found) names the path and the reason
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }  // bytes, when it was opened
  // Fills `into` from `offset`. A file that ends early is Error(data_loss).
  void read(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

// The whole of a file that is expected to be at most `max_bytes` long.
std::string read_file(const std::string& path, std::uint64_t max_bytes = std::uint64_t{1} << 30);
bool file_exists(const std::string& path);
// Writes to a temporary name in the same folder, then renames, so that no half-written file is left under `path`. Threads and
// processes that write the same file at once leave what one of them wrote.
void write_file(const std::string& path, std::string_view content);

}  // namespace cajal
