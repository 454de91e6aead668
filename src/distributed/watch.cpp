#include "distributed/watch.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace cajal {
namespace {

constexpr auto kLongestTick = std::chrono::milliseconds(100);
constexpr auto kFarewellWithin = std::chrono::milliseconds(200);
constexpr std::size_t kMostUnsent = std::size_t{64} << 10;

}  // namespace

Watch::Watch(std::vector<Socket> controls, std::shared_ptr<SharedRegion> region, const JoinOptions& options)
    : options_(options),
      tick_(std::clamp(options.heartbeat / 4, std::chrono::milliseconds(1), std::chrono::milliseconds(kLongestTick))),
      lines_(controls.size()),
      region_(std::move(region)),
      now_(Clock::now()),
      last_beat_(now_ - options.heartbeat) {
  for (std::size_t r = 0; r < controls.size(); ++r) {
    lines_[r].socket = std::move(controls[r]);
    lines_[r].heard = now_;
  }
  thread_ = std::thread([this] { run(); });
}

Watch::~Watch() {
  stopping_ = true;
  thread_.join();
  tell_of_failure();
  const auto deadline = Clock::now() + kFarewellWithin;
  for (Line& line : lines_)
    if (line.socket.is_open())
      line.socket.send_all(line.unsent + (region_->failed() ? "" : frame(FrameType::bye)), deadline);
}

void Watch::run() {
  while (!stopping_) {
    wait();
    forgive_own_absence();
    for (std::size_t r = 0; r < lines_.size(); ++r)
      if (lines_[r].socket.is_open()) read(static_cast<int>(r));
    look_for_stalls();
    tell_of_failure();
    send_heartbeats();
    end_where_due();
  }
}

void Watch::wait() const {
  std::vector<pollfd> fds;
  fds.reserve(lines_.size());
  for (const Line& line : lines_)
    if (line.socket.is_open()) fds.push_back({line.socket.fd(), POLLIN, 0});
  ::poll(fds.data(), fds.size(), static_cast<int>(tick_.count()));
}

// All ranks may have been stopped and continued together, as a shell's job is: nobody can have been heard meanwhile.
void Watch::forgive_own_absence() {
  const auto before = std::exchange(now_, Clock::now());
  if (now_ - before < options_.stall_timeout / 2) return;
  for (Line& line : lines_) line.heard = now_;
}

void Watch::read(int rank) {
  Line& line = lines_[static_cast<std::size_t>(rank)];
  std::array<char, 4096> bytes;
  std::size_t got = 0;
  const auto status = line.socket.receive(bytes, got);
  if (status == Socket::Status::would_block) return;
  if (status == Socket::Status::closed) {
    line.socket.close();
    if (!line.left) failed(rank, "died: its connection is closed");
    return;
  }
  line.heard = now_;
  try {
    line.reader.append({bytes.data(), got});
    while (const auto f = line.reader.next()) {
      if (f->type == FrameType::bye) line.left = true;
      if (f->type != FrameType::failed) continue;
      const Failed failure = decode_failed(f->payload);
      failed(failure.rank, failure.why);
    }
  } catch (const Error& e) {
    line.socket.close();
    failed(rank, detail::join("talks nonsense: ", e.message()));
  }
}

void Watch::look_for_stalls() {
  for (std::size_t r = 0; r < lines_.size(); ++r) {
    const Line& line = lines_[r];
    if (!line.socket.is_open() || line.left || now_ - line.heard < options_.stall_timeout) continue;
    const auto silence = std::chrono::duration_cast<std::chrono::milliseconds>(now_ - line.heard).count();
    failed(static_cast<int>(r), detail::join("has stalled: nothing was heard of it for ", silence, " ms"));
  }
}

void Watch::failed(int rank, const std::string& why) { region_->report_failure(rank, why); }

// Whoever learned of it first, this rank's own caller included; rank 0 passes it on.
void Watch::tell_of_failure() {
  if (told_ || !region_->failed()) return;
  told_ = true;
  failed_at_ = Clock::now();
  const auto message = frame(FrameType::failed, encode(Failed{region_->failed_rank(), region_->why_failed()}));
  for (Line& line : lines_) send(line, message);
}

void Watch::send_heartbeats() {
  for (Line& line : lines_) send(line, now_ - last_beat_ >= options_.heartbeat ? frame(FrameType::heartbeat) : "");
  if (now_ - last_beat_ >= options_.heartbeat) last_beat_ = now_;
}

// Never waits: what a connection does not take stays for the next time.
void Watch::send(Line& line, std::string_view bytes) {
  if (!line.socket.is_open()) return;
  if (line.unsent.size() < kMostUnsent) line.unsent += bytes;  // more is for nobody who still reads
  std::size_t sent = 0;
  if (!line.unsent.empty() && line.socket.send(line.unsent, sent) == Socket::Status::done) line.unsent.erase(0, sent);
}

void Watch::end_where_due() {
  if (!options_.end_process || !told_ || now_ - failed_at_ < options_.exit_grace) return;
  log_line(LogLevel::error, detail::join("rank ", region_->failed_rank(), " ", region_->why_failed()));
  ::_exit(1);
}

}  // namespace cajal
