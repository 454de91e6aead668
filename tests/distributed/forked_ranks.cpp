#include "distributed/forked_ranks.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "base/error.h"

namespace cajal::test {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void run_child(int rank, int output, const std::function<void(int)>& body) {
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  int code = 0;
  try {
    body(rank);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    code = 1;
  }
  std::fflush(nullptr);
  ::_exit(code);
}

std::string read_until(int fd, Clock::time_point limit) {
  std::string text;
  for (;;) {
    pollfd waiting{fd, POLLIN, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(limit - Clock::now()).count();
    if (left <= 0 || ::poll(&waiting, 1, static_cast<int>(left)) <= 0) return text + "[still there at the limit]";
    char bytes[1024];
    const auto n = ::read(fd, bytes, sizeof bytes);
    if (n <= 0) return text;
    text.append(bytes, static_cast<std::size_t>(n));
  }
}

}  // namespace

ForkedRanks::ForkedRanks(int size, const std::function<void(int)>& body) {
  std::fflush(nullptr);
  for (int rank = 0; rank < size; ++rank) {
    int ends[2];
    CAJAL_CHECK(::pipe(ends) == 0);
    const pid_t process = ::fork();
    CAJAL_CHECK(process >= 0);
    if (process == 0) {
      ::close(ends[0]);
      for (const int other : outputs_) ::close(other);
      run_child(rank, ends[1], body);
    }
    ::close(ends[1]);
    processes_.push_back(process);
    outputs_.push_back(ends[0]);
  }
}

ForkedRanks::~ForkedRanks() {
  for (const pid_t process : processes_)
    if (process > 0) ::kill(process, SIGKILL);
  wait(std::chrono::seconds(1));
}

void ForkedRanks::signal(int rank, int number) const { ::kill(processes_[static_cast<std::size_t>(rank)], number); }

ForkedRanks::Ended ForkedRanks::wait_for(int rank, std::chrono::milliseconds limit) {
  const auto until = Clock::now() + limit;
  pid_t& process = processes_[static_cast<std::size_t>(rank)];
  Ended ended;
  if (process <= 0) return ended;
  const int output = outputs_[static_cast<std::size_t>(rank)];
  ended.output = read_until(output, until);
  ::close(output);
  if (Clock::now() >= until) ::kill(process, SIGKILL);
  int status = 0;
  ::waitpid(process, &status, 0);
  ended.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  process = 0;
  return ended;
}

std::vector<ForkedRanks::Ended> ForkedRanks::wait(std::chrono::milliseconds limit) {
  const auto until = Clock::now() + limit;
  std::vector<Ended> ended;
  for (std::size_t r = 0; r < processes_.size(); ++r)
    ended.push_back(
        wait_for(static_cast<int>(r), std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now())));
  return ended;
}

std::string new_job() {
  static int jobs = 0;
  return detail::join("test-", ::getpid(), "-", ++jobs);
}

Rendezvous rendezvous_at(const std::string& job, int rank, int size) {
  Rendezvous r;
  r.launcher = Launcher::open_mpi;
  r.rank = rank;
  r.world_size = size;
  r.job = job;
  return r;
}

JoinOptions quick_options(const std::string& transport) {
  JoinOptions options;
  options.transport = transport;
  options.facts = {{"version", "1"}, {"model", "abc"}};
  options.start_timeout = std::chrono::seconds(60);
  options.heartbeat = std::chrono::milliseconds(50);
  options.stall_timeout = std::chrono::milliseconds(1500);
  options.exit_grace = std::chrono::milliseconds(300);
  return options;
}

}  // namespace cajal::test
