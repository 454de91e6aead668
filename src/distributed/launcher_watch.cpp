#include "distributed/launcher_watch.h"

#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

namespace cajal {
namespace {

constexpr auto kTick = std::chrono::milliseconds(100);

}  // namespace

LauncherWatch::LauncherWatch(int rank) : rank_(rank), launcher_(::getppid()), thread_([this] { run(); }) {}

LauncherWatch::~LauncherWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void LauncherWatch::limit(const std::string& doing, std::chrono::milliseconds time) {
  const std::lock_guard lock(mutex_);
  doing_ = doing;
  until_ = Clock::now() + time;
}

void LauncherWatch::no_limit() {
  const std::lock_guard lock(mutex_);
  until_ = Clock::time_point::max();
}

void LauncherWatch::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kTick, [&] { return stopping_; })) {
    std::string why;
    if (::getppid() != launcher_) why = detail::join("process ", launcher_, ", which launched it, is gone");
    if (Clock::now() > until_) why = doing_ + " takes too long";
    if (why.empty()) continue;
    log_line(LogLevel::error, detail::join("rank ", rank_, ": ", why));
    ::_exit(1);
  }
}

}  // namespace cajal
