#pragma once
// The checksums that the hub names files by.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace cajal {

// SHA-256, or the SHA-1 that Git gives a blob: of "blob <size>\0" and then the content.
class Digest {
 public:
  static Digest sha256();
  static Digest git_blob(std::uint64_t size);

  void update(std::span<const std::byte> bytes);
  std::string finish();  // lower-case hexadecimal; once

 private:
  explicit Digest(bool is_sha256);
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;
};

}  // namespace cajal
