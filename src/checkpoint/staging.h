#pragma once
// The memory that loading needs beside the weights themselves, and its bound: weights pass through it in pieces.
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace cajal {

class Staging {
 public:
  // `pool` does the work and must not be in use by anyone else meanwhile. All buffers together stay within `max_bytes`.
  explicit Staging(ThreadPool& pool, std::size_t max_bytes = std::size_t{32} << 20);

  class Lease {
   public:
    Lease(Staging& owner, std::size_t bytes);  // waits while the bound leaves no room and others hold buffers
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    std::span<std::byte> bytes() { return {buffer_.memory.get(), wanted_}; }

   private:
    friend class Staging;
    struct Buffer {
      std::unique_ptr<std::byte[]> memory;
      std::size_t size = 0;
    };
    Staging& owner_;
    Buffer buffer_;
    std::size_t wanted_;
  };

  ThreadPool& pool() { return pool_; }
  std::size_t max_bytes() const { return max_bytes_; }
  std::size_t peak_bytes() const { return peak_; }  // the most that was ever allocated at once

 private:
  ThreadPool& pool_;
  std::size_t max_bytes_, allocated_ = 0, peak_ = 0;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Lease::Buffer> idle_;
};

}  // namespace cajal
