#include "distributed/join.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "distributed/shared_communicator.h"

namespace cajal {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kHelloWithin = std::chrono::seconds(10);  // of a connection that says nothing
constexpr auto kTellWithin = std::chrono::seconds(2);

std::string random_token() {
  std::random_device random;
  std::string token;
  for (int i = 0; i < 32; ++i) token += "0123456789abcdef"[random() % 16];
  return token;
}

// Rank 0's side.
class Gathering {
 public:
  Gathering(const Rendezvous& rendezvous, const JoinOptions& options, Hello own)
      : rendezvous_(rendezvous), options_(options), own_(std::move(own)) {
    joined_.controls.resize(static_cast<std::size_t>(rendezvous.world_size));
    hellos_.resize(joined_.controls.size());
    hellos_[0] = own_;
    came_.resize(hellos_.size());
    came_[0] = true;
  }

  void run(const Socket& listener) {
    auto deadline = Clock::now() + options_.start_timeout;
    bool lingers = false;
    while (missing() > 0) {
      wait(listener, deadline);
      if (auto accepted = accept_from(listener)) pending_.push_back({std::move(*accepted), {}, Clock::now()});
      for (Pending& p : pending_) read(p);
      std::erase_if(pending_, [](const Pending& p) { return !p.socket.is_open(); });
      look_for_deaths();
      if (problem_ && !std::exchange(lingers, true)) deadline = std::min(deadline, Clock::now() + kTellWithin);
      if (Clock::now() > deadline && !problem_) refuse_for_missing();
      if (Clock::now() > deadline) break;
    }
    if (problem_) throw_problem();
  }
  [[noreturn]] void throw_problem() const { throw Error(*problem_); }

  Joined welcome(std::string transport, std::shared_ptr<SharedRegion> region) {
    Welcome& w = joined_.welcome;
    w.token = random_token();
    w.transport = std::move(transport);
    w.region_pid = static_cast<std::int32_t>(::getpid());
    w.region_fd = region->fd();
    for (std::size_t r = 0; r < hellos_.size(); ++r) {
      const Socket& control = joined_.controls[r];
      w.peers.push_back({.host = hellos_[r].host,
                         .address = control.is_open() ? control.peer_address() : "",
                         .data_port = hellos_[r].data_port});
    }
    tell_all(frame(FrameType::welcome, encode(w)));
    joined_.region = std::move(region);
    return std::move(joined_);
  }
  bool on_one_host() const {
    return std::all_of(hellos_.begin(), hellos_.end(), [&](const Hello& h) { return h.host == own_.host; });
  }
  // Nobody starts. Those who are there hear why now, those who come a little later when they do; the first reason counts.
  template <class... Parts>
  void refuse(const Parts&... parts) {
    if (problem_) return;
    try {
      fail(parts...);
    } catch (const Error& e) {
      problem_ = e;
      for (Socket& s : joined_.controls) tell_of_problem(s);
    }
  }

 private:
  struct Pending {
    Socket socket;
    FrameReader reader;
    Clock::time_point since;
  };

  std::size_t missing() const {
    std::size_t n = 0;
    for (const bool came : came_) n += came ? 0 : 1;
    return n;
  }

  void wait(const Socket& listener, Deadline deadline) const {
    std::vector<pollfd> fds{{listener.fd(), POLLIN, 0}};
    for (const Pending& p : pending_) fds.push_back({p.socket.fd(), POLLIN, 0});
    for (const Socket& s : joined_.controls)
      if (s.is_open()) fds.push_back({s.fd(), POLLIN, 0});
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    ::poll(fds.data(), fds.size(), static_cast<int>(std::clamp<long>(left + 1, 0, 200)));
  }

  void read(Pending& p) {
    char bytes[4096];
    std::size_t got = 0;
    const auto status = p.socket.receive(bytes, got);
    try {
      p.reader.append({bytes, got});
      if (const auto f = p.reader.next()) {
        if (f->type != FrameType::hello) fail(ErrorCode::data_loss, "its first message is not a hello");
        const Hello hello = decode_hello(f->payload);
        admit(hello, std::move(p.socket));
        p.socket.close();
      } else if (status == Socket::Status::closed || Clock::now() - p.since > kHelloWithin) {
        p.socket.close();
      }
    } catch (const Error& e) {
      if (e.code() != ErrorCode::data_loss) throw;
      log_warning("a connection from ", p.socket.peer_address(), " is turned away: ", e.message());
      p.socket.close();
    }
  }

  void admit(const Hello& hello, Socket socket) {
    judge(hello, socket.peer_address());
    if (problem_) tell_of_problem(socket);
    const auto slot = static_cast<std::size_t>(hello.rank);
    if (slot == 0 || slot >= joined_.controls.size() || came_[slot]) return;
    came_[slot] = true;
    hellos_[slot] = hello;
    joined_.controls[slot] = std::move(socket);
  }

  void judge(const Hello& hello, const std::string& from) {
    const auto slot = static_cast<std::size_t>(hello.rank);
    const std::string who = detail::join("rank ", hello.rank, from.empty() ? "" : detail::join(" (", from, ")"));
    if (hello.protocol != kRankProtocol)
      refuse(ErrorCode::unavailable, "a rank at ", from, " speaks protocol ", hello.protocol, ", rank 0 speaks ",
             kRankProtocol, remedy("start all ranks from the same build"));
    else if (hello.world_size != rendezvous_.world_size)
      refuse(ErrorCode::invalid_argument, who, " was told that there are ", hello.world_size,
             " ranks, rank 0 that there are ", rendezvous_.world_size,
             remedy("start all ranks of one job with the same number of them"));
    else if (slot >= joined_.controls.size())
      refuse(ErrorCode::invalid_argument, who, " is none of ", rendezvous_.world_size, " ranks");
    else if (came_[slot])
      refuse(ErrorCode::invalid_argument, "two processes say that they are rank ", hello.rank, ": ",
             slot == 0 ? "rank 0" : joined_.controls[slot].peer_address(), " and ", from,
             remedy("give every process a rank of its own, and every job a port of its own"));
    else
      compare_facts(who, hello.facts);
  }

  void compare_facts(const std::string& who, const Facts& theirs) {
    for (std::size_t i = 0; i < std::max(theirs.size(), own_.facts.size()); ++i) {
      const auto* a = i < own_.facts.size() ? &own_.facts[i] : nullptr;
      const auto* b = i < theirs.size() ? &theirs[i] : nullptr;
      if (a != nullptr && b != nullptr && *a == *b) continue;
      const auto& name = a != nullptr ? a->first : b->first;
      refuse(ErrorCode::invalid_argument, who, " has ", name, " '", b != nullptr && b->first == name ? b->second : "",
             "', rank 0 has '", a != nullptr ? a->second : "", "'",
             remedy("start all ranks from the same build, with the same model and the same options"));
    }
  }

  // A rank that has come and is gone again before the last one came.
  void look_for_deaths() {
    for (std::size_t r = 1; r < joined_.controls.size(); ++r) {
      Socket& s = joined_.controls[r];
      char byte = 0;
      std::size_t got = 0;
      if (s.is_open() && s.receive({&byte, 1}, got) == Socket::Status::closed) {
        s.close();
        refuse(ErrorCode::unavailable, "rank ", r, " died while others were still to come");
      }
    }
  }

  void refuse_for_missing() {
    std::string names;
    for (std::size_t r = 1; r < came_.size(); ++r)
      if (!came_[r]) names += (names.empty() ? "" : ", ") + std::to_string(r);
    const bool one = missing() == 1;
    refuse(ErrorCode::unavailable, one ? "rank " : "ranks ", names, " of ", rendezvous_.world_size,
           one ? " is" : " are", " missing after ", static_cast<double>(options_.start_timeout.count()) / 1000, " s",
           remedy("look why ", one ? "it" : "they", " did not start, or cannot reach rank 0 at ",
                  endpoint_of(rendezvous_).text()));
  }

  void tell_all(const std::string& bytes) {
    const auto deadline = Clock::now() + kTellWithin;
    for (Socket& s : joined_.controls)
      if (s.is_open()) s.send_all(bytes, deadline);
  }
  void tell_of_problem(Socket& s) const {
    if (s.is_open()) s.send_all(frame(FrameType::refused, problem_->what()), Clock::now() + kTellWithin);
  }

  const Rendezvous& rendezvous_;
  const JoinOptions& options_;
  Hello own_;
  Joined joined_;
  std::vector<Hello> hellos_;
  std::vector<Pending> pending_;
  std::vector<bool> came_;
  std::optional<Error> problem_;
};

std::string choose_transport(const Rendezvous& rendezvous, const JoinOptions& options, Gathering& gathering) {
  const bool one_host = gathering.on_one_host();
  if (options.transport == "shared" && !one_host) {
    gathering.refuse(ErrorCode::invalid_argument, "transport 'shared' needs all ranks on one machine, and they are not",
                     remedy("choose 'tcp' or 'auto'"));
    gathering.throw_problem();
  }
  if (options.transport != "auto") return options.transport;
  if (one_host) return "shared";
  return rendezvous.launcher == Launcher::open_mpi && rendezvous.leader_address.empty() ? "mpi" : "tcp";
}

std::shared_ptr<SharedRegion> open_region(const Welcome& welcome) {
  const auto path = detail::join("/proc/", welcome.region_pid, "/fd/", welcome.region_fd);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0)
    fail(ErrorCode::unavailable, "the memory of rank 0 cannot be opened at ", path,
         remedy("set CAJAL_TRANSPORT=tcp where processes of one user may not share memory"));
  const Socket owner(fd);  // closes it
  return SharedRegion::from_file(fd);
}

Welcome wait_for_welcome(Socket& control, Deadline deadline) {
  FrameReader reader;
  for (;;) {
    if (const auto f = reader.next()) {
      if (f->type == FrameType::welcome) return decode_welcome(f->payload);
      if (f->type == FrameType::refused) fail(ErrorCode::unavailable, "rank 0 refuses to start: ", f->payload);
      fail(ErrorCode::data_loss, "rank 0 answered with a message of type ", static_cast<std::uint32_t>(f->type));
    }
    if (!wait_readable(control.fd(), deadline)) fail(ErrorCode::unavailable, "rank 0 did not say in time who is there");
    char bytes[4096];
    std::size_t got = 0;
    if (control.receive(bytes, got) == Socket::Status::closed)
      fail(ErrorCode::unavailable, "rank 0 died before all ranks were there");
    reader.append({bytes, got});
  }
}

Joined join_rank_0(const Rendezvous& rendezvous, const JoinOptions& options, const Endpoint& leader, Socket listener) {
  if (!listener.is_open()) listener = listen_at(leader);
  const bool several = leader.host.find(',') != std::string::npos;  // and ranks may come to any of them
  const std::string host = !leader.local_name.empty() ? "127.0.0.1" : several ? "" : leader.host;
  Socket data = listen_at({.host = host, .port = 0, .local_name = ""});
  Gathering gathering(rendezvous, options,
                      {.rank = 0,
                       .world_size = rendezvous.world_size,
                       .host = host_identity(),
                       .data_port = static_cast<std::uint32_t>(data.local_port()),
                       .facts = options.facts});
  gathering.run(listener);
  const auto transport = choose_transport(rendezvous, options, gathering);
  const bool shared = transport == "shared";
  auto region = SharedRegion::create(shared ? SharedCommunicator::region_bytes_for(rendezvous.world_size) : 0);
  if (shared) SharedCommunicator::make_group(*region, rendezvous.world_size);
  Joined joined = gathering.welcome(transport, std::move(region));
  joined.data_listener = std::move(data);
  return joined;
}

}  // namespace

Endpoint endpoint_of(const Rendezvous& r) {
  if (!r.job.empty()) return {.host = "", .port = 0, .local_name = "cajal-ranks-" + r.job};
  return {.host = r.leader_address, .port = r.port, .local_name = ""};
}

Joined join_ranks(const Rendezvous& rendezvous, const JoinOptions& options, const Endpoint& leader, Socket listener) {
  if (rendezvous.rank == 0) return join_rank_0(rendezvous, options, leader, std::move(listener));
  Joined joined;
  joined.controls.resize(1);
  Socket& control = joined.controls[0];
  with_context(detail::join("rank ", rendezvous.rank, " looks for rank 0"),
               [&] { control = connect_to(leader, Clock::now() + options.start_timeout); });
  const bool local = !leader.local_name.empty();
  joined.data_listener =
      listen_at({.host = local ? "127.0.0.1" : control.local_address(), .port = 0, .local_name = ""});
  const Hello hello{.rank = rendezvous.rank,
                    .world_size = rendezvous.world_size,
                    .host = host_identity(),
                    .data_port = static_cast<std::uint32_t>(joined.data_listener.local_port()),
                    .facts = options.facts};
  // Rank 0 gives up first, and says why.
  const auto deadline = Clock::now() + options.start_timeout + std::chrono::seconds(5);
  if (!control.send_all(frame(FrameType::hello, encode(hello)), deadline))
    fail(ErrorCode::unavailable, "rank 0 died before all ranks were there");
  joined.welcome = wait_for_welcome(control, deadline);
  if (joined.welcome.peers.size() != static_cast<std::size_t>(rendezvous.world_size))
    fail(ErrorCode::data_loss, "rank 0 tells of ", joined.welcome.peers.size(), " ranks, expected ",
         rendezvous.world_size);
  joined.welcome.peers[0].address = local ? "127.0.0.1" : control.peer_address();
  joined.region = joined.welcome.transport == "shared" ? open_region(joined.welcome) : SharedRegion::create(0);
  return joined;
}

}  // namespace cajal
