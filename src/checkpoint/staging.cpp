#include "checkpoint/staging.h"

#include <algorithm>

#include "base/error.h"

namespace cajal {

Staging::Staging(ThreadPool& pool, std::size_t max_bytes) : pool_(pool), max_bytes_(max_bytes) {}

Staging::Lease::Lease(Staging& owner, std::size_t bytes) : owner_(owner), wanted_(bytes) {
  if (bytes > owner.max_bytes_)
    fail(ErrorCode::unsupported, "loading needs a buffer of ", bytes, " bytes, expected at most ", owner.max_bytes_,
         remedy("rows this long are not expected in a Qwen3 model; is config.json right?"));
  std::unique_lock lock(owner.mutex_);
  for (;;) {
    const auto fits =
        std::find_if(owner.idle_.begin(), owner.idle_.end(), [&](const Buffer& b) { return b.size >= bytes; });
    if (fits != owner.idle_.end()) {
      buffer_ = std::move(*fits);
      owner.idle_.erase(fits);
      return;
    }
    while (!owner.idle_.empty() && owner.allocated_ + bytes > owner.max_bytes_) {  // smaller ones make room
      owner.allocated_ -= owner.idle_.back().size;
      owner.idle_.pop_back();
    }
    if (owner.allocated_ + bytes <= owner.max_bytes_) break;
    owner.returned_.wait(lock);
  }
  buffer_ = {std::make_unique_for_overwrite<std::byte[]>(bytes), bytes};
  owner.allocated_ += bytes;
  owner.peak_ = std::max(owner.peak_, owner.allocated_);
}

Staging::Lease::~Lease() {
  {
    const std::scoped_lock lock(owner_.mutex_);
    owner_.idle_.push_back(std::move(buffer_));
  }
  owner_.returned_.notify_one();
}

}  // namespace cajal
