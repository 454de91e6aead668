#include "engine/observability/step_trace.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <ctime>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

namespace cajal {
namespace {

constexpr std::size_t kFlushAt = 64 << 10;
// No event is larger: a name and kMaxArgs of names and values, each byte written as at most six, and fixed parts.
constexpr std::size_t kMaxEvent = (1 + 2 * StepTrace::kMaxArgs) * (6 * StepTrace::kMaxText + 8) + 512;
constexpr std::chrono::seconds kFlushEvery{1};
constexpr int kProcess = 1;
constexpr std::string_view kEnd = "\n]\n";

// A file that may not grow any more (ulimit -f) is a signal to this thread, unless it is held back; then it is EFBIG.
class WithoutFileSizeSignal {
 public:
  WithoutFileSizeSignal() {
    sigemptyset(&signal_);
    sigaddset(&signal_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signal_, &before_);
  }
  ~WithoutFileSizeSignal() {
    const timespec now{};
    if (!sigismember(&before_, SIGXFSZ)) sigtimedwait(&signal_, nullptr, &now);  // the one that was held back
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  WithoutFileSizeSignal(const WithoutFileSizeSignal&) = delete;
  WithoutFileSizeSignal& operator=(const WithoutFileSizeSignal&) = delete;

 private:
  sigset_t signal_{}, before_{};
};

// 0, or why not all of it could be written.
int write_all(int fd, std::string_view bytes) {
  const WithoutFileSizeSignal held_back;
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENOSPC;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return 0;
}

int open_for_writing(const std::string& path) {
  // Not waiting matters for a pipe alone, which nobody may be reading.
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
  const int error = errno;
  struct stat info {};
  if (error == ENXIO || (fd >= 0 && ::fstat(fd, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode)))) {
    if (fd >= 0) ::close(fd);
    fail(ErrorCode::invalid_argument, path, ": a pipe, expected a file for the trace",
         remedy("name a file; it can be read while it grows"));
  }
  if (fd < 0)
    fail(error == ENOENT ? ErrorCode::not_found : ErrorCode::unavailable, path,
         ": cannot create the trace: ", std::strerror(error),
         remedy("name a file in a folder that exists and may be written to"));
  ::fcntl(fd, F_SETFL, 0);
  return fd;
}

}  // namespace

StepTrace::StepTrace(const std::string& path) : path_(path), fd_(open_for_writing(path)) {
  buffer_.reserve(kFlushAt + kMaxEvent + kEnd.size());
  buffer_ = "[\n";
  buffer_ += R"({"ph":"M","pid":1,"name":"process_name","args":{"name":"cajal"}})";
  name_track(static_cast<int>(Track::host), "host");
  name_track(static_cast<int>(Track::device), "device");
  flush();
}

StepTrace::~StepTrace() { close(); }

void StepTrace::name_track(int thread, std::string_view name) {
  buffer_ += ",\n{\"ph\":\"M\",\"name\":\"thread_name\"";
  number("pid", kProcess);
  number("tid", thread);
  args({{"name", name}});
  buffer_ += "},\n{\"ph\":\"M\",\"name\":\"thread_sort_index\"";
  number("pid", kProcess);
  number("tid", thread);
  args({{"sort_index", std::int64_t{thread}}});
  buffer_ += '}';
}

void StepTrace::number(std::string_view key, std::int64_t value) {
  char digits[24];
  buffer_ += ",\"";
  buffer_ += key;
  buffer_ += "\":";
  buffer_.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

// Traces count microseconds; three digits after the point keep the nanoseconds.
void StepTrace::microseconds(std::string_view key, Clock::Time time) {
  const std::int64_t nanoseconds = time.count();
  const std::int64_t fraction = std::abs(nanoseconds % 1000);
  buffer_ += ",\"";
  buffer_ += key;
  buffer_ += nanoseconds < 0 ? "\":-" : "\":";
  char digits[24];
  buffer_.append(digits, std::to_chars(digits, digits + sizeof digits, std::abs(nanoseconds / 1000)).ptr);
  const char tail[] = {'.', static_cast<char>('0' + fraction / 100), static_cast<char>('0' + fraction / 10 % 10),
                       static_cast<char>('0' + fraction % 10)};
  buffer_.append(tail, sizeof tail);
}

void StepTrace::text(std::string_view text) {
  if (text.size() > kMaxText) {
    text = text.substr(0, kMaxText);
    text.remove_suffix(incomplete_utf8_suffix(text));
  }
  append_json_string(buffer_, text);
}

void StepTrace::args(Args args) {
  CAJAL_CHECK(args.size() <= kMaxArgs, args.size(), " details of one event, at most ", kMaxArgs);
  if (args.size() == 0) return;
  buffer_ += ",\"args\":{";
  bool first = true;
  for (const Arg& arg : args) {
    if (!std::exchange(first, false)) buffer_ += ',';
    text(arg.name);
    buffer_ += ':';
    char digits[32];
    if (const auto* integer = std::get_if<std::int64_t>(&arg.value))
      buffer_.append(digits, std::to_chars(digits, digits + sizeof digits, *integer).ptr);
    else if (const auto* words = std::get_if<std::string_view>(&arg.value))
      text(*words);
    else if (const double real = std::get<double>(arg.value); std::isfinite(real))
      buffer_.append(digits, std::to_chars(digits, digits + sizeof digits, real).ptr);
    else
      buffer_ += "null";  // JSON has no NaN
  }
  buffer_ += '}';
}

void StepTrace::event(char phase, std::string_view name, Clock::Time at) {
  buffer_ += ",\n{\"ph\":\"";
  buffer_ += phase;
  buffer_ += '"';
  if (!name.empty()) {
    buffer_ += ",\"name\":";
    text(name);
  }
  number("pid", kProcess);
  microseconds("ts", at);
}

void StepTrace::finish(Args details, Clock::Time at) {
  args(details);
  buffer_ += '}';
  last_ = std::max(last_, at);
  if (buffer_.size() >= kFlushAt || last_ - flushed_ >= kFlushEvery) flush();
}

void StepTrace::complete(Track track, std::string_view name, Clock::Time start, Clock::Time end, Args args) {
  if (!is_open()) return;
  CAJAL_CHECK(start <= end, name, " ends before it begins");
  event('X', name, start);
  microseconds("dur", end - start);
  number("tid", static_cast<int>(track));
  finish(args, end);
}

void StepTrace::begin(Track track, std::string_view name, Clock::Time start, Args args) {
  if (!is_open()) return;
  ++num_open_[static_cast<int>(track)];
  event('B', name, start);
  number("tid", static_cast<int>(track));
  finish(args, start);
}

void StepTrace::end(Track track, Clock::Time end) {
  if (!is_open()) return;
  CAJAL_CHECK(num_open_[static_cast<int>(track)] > 0, "a span ends that was not begun");
  --num_open_[static_cast<int>(track)];
  event('E', {}, end);
  number("tid", static_cast<int>(track));
  finish({}, end);
}

void StepTrace::instant(Track track, std::string_view name, Clock::Time at, Args args) {
  if (!is_open()) return;
  event('i', name, at);
  number("tid", static_cast<int>(track));
  buffer_ += R"(,"s":"t")";
  finish(args, at);
}

void StepTrace::counter(std::string_view name, Clock::Time at, Args values) {
  if (!is_open()) return;
  event('C', name, at);
  finish(values, at);
}

namespace {

// Events of one id and category share a track.
void append_request(std::string& out, std::uint64_t id) {
  char digits[24];
  out += R"(,"cat":"request","id":"0x)";
  out.append(digits, std::to_chars(digits, digits + sizeof digits, id, 16).ptr);
  out += '"';
}

}  // namespace

void StepTrace::async_begin(std::uint64_t id, std::string_view name, Clock::Time at, Args args) {
  if (!is_open()) return;
  event('b', name, at);
  append_request(buffer_, id);
  finish(args, at);
}

void StepTrace::async_instant(std::uint64_t id, std::string_view name, Clock::Time at, Args args) {
  if (!is_open()) return;
  event('n', name, at);
  append_request(buffer_, id);
  finish(args, at);
}

void StepTrace::async_end(std::uint64_t id, std::string_view name, Clock::Time at, Args args) {
  if (!is_open()) return;
  event('e', name, at);
  append_request(buffer_, id);
  finish(args, at);
}

void StepTrace::step_counters(Clock::Time at, const StepCounters& c) {
  counter("sequences", at, {{"running", c.num_running}, {"waiting", c.num_waiting}});
  counter("kv_blocks", at, {{"used", c.kv_blocks_used}});
  counter("rows", at, {{"prefill", c.prefill_rows}, {"decode", c.decode_rows}});
}

void StepTrace::flush() {
  flushed_ = last_;
  if (!is_open() || buffer_.empty()) return;
  if (const int error = write_all(fd_, buffer_)) return give_up(error);
  written_ += static_cast<std::int64_t>(buffer_.size());
  buffer_.clear();
}

void StepTrace::close() {
  for (const Track track : {Track::host, Track::device})
    while (is_open() && num_open_[static_cast<int>(track)] > 0) end(track, last_);
  if (!is_open()) return;
  buffer_ += kEnd;
  flush();
  if (!is_open()) return;
  if (::close(std::exchange(fd_, -1)) != 0) log_warning(path_, ": the trace may be incomplete: ", std::strerror(errno));
}

// Takes back the piece of an event that may have been written, and completes the JSON if there is room for that.
void StepTrace::give_up(int error) {
  struct stat info {};
  if (written_ > 0 && ::fstat(fd_, &info) == 0 && S_ISREG(info.st_mode) && ::ftruncate(fd_, written_) == 0 &&
      ::lseek(fd_, written_, SEEK_SET) == written_)
    static_cast<void>(write_all(fd_, kEnd));
  ::close(std::exchange(fd_, -1));
  buffer_.clear();
  log_warning(path_, ": cannot write: ", std::strerror(error), "; the trace ends after ", written_, " bytes");
}

}  // namespace cajal
