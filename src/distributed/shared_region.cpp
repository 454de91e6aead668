#include "distributed/shared_region.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "base/checked.h"
#include "base/error.h"

namespace cajal {
namespace {

constexpr std::size_t kPage = 4096;

[[noreturn]] void fail_errno(const char* doing, std::size_t bytes) {
  fail(ErrorCode::out_of_memory, doing, " for ", bytes, " bytes that ranks share: ", std::strerror(errno));
}

}  // namespace

std::byte* SharedRegion::map(int fd, std::size_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (data == MAP_FAILED) fail_errno("mmap failed", bytes);
  return static_cast<std::byte*>(data);
}

std::shared_ptr<SharedRegion> SharedRegion::create(std::size_t bytes) {
  bytes = round_up(bytes + kPage, kPage);
  const int fd = ::memfd_create("cajal ranks", MFD_CLOEXEC);
  if (fd < 0) fail_errno("memfd_create failed", bytes);
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    ::close(fd);
    fail_errno("ftruncate failed", bytes);
  }
  std::shared_ptr<SharedRegion> region(new SharedRegion(fd, map(fd, bytes), bytes));
  static_assert(sizeof(Header) <= kFirstOffset);
  region->header().used.store(kFirstOffset, std::memory_order_release);
  return region;
}

std::shared_ptr<SharedRegion> SharedRegion::from_file(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || info.st_size < static_cast<off_t>(kPage))
    fail(ErrorCode::data_loss, "the memory that ranks share is ", info.st_size, " bytes long");
  const int own = ::dup(fd);
  if (own < 0) fail_errno("dup failed", static_cast<std::size_t>(info.st_size));
  const auto bytes = static_cast<std::size_t>(info.st_size);
  return std::shared_ptr<SharedRegion>(new SharedRegion(own, map(own, bytes), bytes));
}

SharedRegion::~SharedRegion() {
  ::munmap(data_, bytes_);
  ::close(fd_);
}

std::size_t SharedRegion::allocate(std::size_t bytes) {
  bytes = round_up(bytes, kPage);
  const std::uint64_t offset = header().used.fetch_add(bytes);
  return offset + bytes <= bytes_ ? offset : 0;
}

void SharedRegion::report_failure(int world_rank, std::string_view why) noexcept {
  Header& h = header();
  std::uint32_t nobody = 0;
  if (!h.failed.compare_exchange_strong(nobody, kTelling)) return;
  h.failed_rank = world_rank;
  h.why_length = static_cast<std::uint32_t>(std::min(why.size(), sizeof h.why));
  std::memcpy(h.why, why.data(), h.why_length);
  h.failed.store(kTold, std::memory_order_release);
}

std::string SharedRegion::why_failed() const {
  const Header& h = header();
  return {h.why, std::min<std::size_t>(h.why_length, sizeof h.why)};
}

std::string SharedRegion::failure() const {
  return failed() ? detail::join("rank ", failed_rank(), " ", why_failed()) : std::string();
}

void SharedRegion::throw_failure() const { fail(ErrorCode::unavailable, failure()); }

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::chrono::nanoseconds at_most) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(at_most);
  const timespec time{.tv_sec = seconds.count(), .tv_nsec = (at_most - seconds).count()};
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT, seen, &time, nullptr, 0);
}

void futex_wake_all(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

}  // namespace cajal
