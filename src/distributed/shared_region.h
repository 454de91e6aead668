#pragma once
// Memory that all ranks of one machine see, whether they are threads or processes: where they tell each other that they have
// come to a point, that they failed, and where their data crosses. Everything in it is of fixed layout and survives any one
// rank's death; waiting is by watching for a bounded time, then by sleeping on a futex.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cajal {

// One rank's place in a group. Nobody else writes it, but for `sleepers`.
struct alignas(64) RankLine {
  // How a rank comes to no further phase: it is done, or an exception that it has yet to tell of takes it away.
  enum Left : std::uint32_t { kStays, kLeft, kUnwound };
  std::atomic<std::uint32_t> arrived{0};   // the last phase that this rank has come to
  std::atomic<std::uint32_t> sleepers{0};  // those that sleep until `arrived` changes
  std::atomic<std::uint32_t> left{kStays};
  std::atomic<std::int32_t> core{-1};  // where it ran when it came last
  std::uint64_t doing[2] = {};         // what it does in an even, an odd phase: all ranks must do the same
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free && std::atomic<std::uint64_t>::is_always_lock_free);

class SharedRegion {
 public:
  // Fresh memory of `bytes`, zeroed; pages that are never touched cost nothing. Threads share the object, processes the
  // file: fd() is an anonymous file (memfd) that another process opens with `from_file`.
  static std::shared_ptr<SharedRegion> create(std::size_t bytes);
  static std::shared_ptr<SharedRegion> from_file(int fd);  // does not take the descriptor over
  ~SharedRegion();
  SharedRegion(const SharedRegion&) = delete;
  SharedRegion& operator=(const SharedRegion&) = delete;

  int fd() const { return fd_; }

  static constexpr std::size_t kFirstOffset = 4096;  // what the first allocation gets
  // Bytes that nobody else has been given, as an offset: a multiple of 4096; 0 where the region is full. Nothing is given back.
  std::size_t allocate(std::size_t bytes);
  std::byte* at(std::size_t offset) { return data_ + offset; }

  // The first failure that is reported stays; every waiting rank hears of it within 100 ms.
  void report_failure(int world_rank, std::string_view why) noexcept;
  bool failed() const { return header().failed.load(std::memory_order_acquire) == kTold; }
  // Once it has.
  int failed_rank() const { return header().failed_rank; }
  std::string why_failed() const;
  std::string failure() const;  // "rank 3 died: …"; empty before
  [[noreturn]] void throw_failure() const;

 private:
  struct Header {
    std::atomic<std::uint64_t> used;
    std::atomic<std::uint32_t> failed;
    std::int32_t failed_rank;
    std::uint32_t why_length;
    char why[1024];
  };
  static constexpr std::uint32_t kTelling = 1, kTold = 2;

  SharedRegion(int fd, std::byte* data, std::size_t bytes) : fd_(fd), data_(data), bytes_(bytes) {}
  static std::byte* map(int fd, std::size_t bytes);
  const Header& header() const { return *reinterpret_cast<const Header*>(data_); }
  Header& header() { return *reinterpret_cast<Header*>(data_); }

  int fd_;
  std::byte* data_;
  std::size_t bytes_;
};

// Sleeps until `word` is not `seen`, somebody wakes it, or the time is over. Works across processes.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::chrono::nanoseconds at_most);
void futex_wake_all(std::atomic<std::uint32_t>& word);

}  // namespace cajal
