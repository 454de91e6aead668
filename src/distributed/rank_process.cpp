#include "distributed/rank_process.h"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "distributed/exchange.h"
#include "distributed/launcher_watch.h"
#include "distributed/mpi_carrier.h"
#include "distributed/shared_communicator.h"
#include "distributed/tcp_mesh.h"
#include "distributed/thread_group.h"
#include "distributed/watch.h"

namespace cajal {
namespace {

std::vector<int> all_ranks(const Joined& joined) {
  std::vector<int> ranks(joined.welcome.peers.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

std::unique_ptr<Communicator> shared_world(const Joined& joined, int rank, int local_size) {
  SharedCommunicator::Place place;
  place.offset = SharedRegion::kFirstOffset;
  place.members = all_ranks(joined);
  place.rank = rank;
  // Not the cores that this process may use: launchers give each rank some of its own.
  place.crowded = local_size > ::sysconf(_SC_NPROCESSORS_ONLN);
  return std::make_unique<SharedCommunicator>(joined.region, std::move(place));
}

std::chrono::milliseconds seconds(const Environment& environment, const char* name,
                                  std::chrono::milliseconds standard) {
  const auto found = environment.find(name);
  if (found == environment.end() || found->second.empty()) return standard;
  double value = 0;
  const char* end = found->second.data() + found->second.size();
  const auto [stop, error] = std::from_chars(found->second.data(), end, value);
  if (error != std::errc() || stop != end || !(value >= 0.05 && value <= 1e6))
    fail(ErrorCode::invalid_argument, "environment: ", name, " is '", found->second,
         "', expected seconds from 0.05 to 1000000");
  return std::chrono::milliseconds(static_cast<std::int64_t>(value * 1000));
}

}  // namespace

std::unique_ptr<RankProcess> RankProcess::join(const Rendezvous& rendezvous, const JoinOptions& options) {
  std::unique_ptr<RankProcess> process(new RankProcess);
  process->exceptions_ = std::uncaught_exceptions();
  process->rank_ = rendezvous.rank;
  process->size_ = rendezvous.world_size;
  if (rendezvous.world_size == 1) {
    process->transport_ = "shared";
    process->world_ = std::move(make_thread_group(1).front());
    return process;
  }
  if (options.end_process) process->launcher_ = std::make_unique<LauncherWatch>(rendezvous.rank);
  Joined joined = process->find_others(rendezvous, options);
  process->transport_ = joined.welcome.transport;
  process->local_rank_ = process->local_size_ = 0;
  const auto own_host = joined.welcome.peers[static_cast<std::size_t>(rendezvous.rank)].host;
  for (std::size_t r = 0; r < joined.welcome.peers.size(); ++r) {
    if (joined.welcome.peers[r].host != own_host) continue;
    ++process->local_size_;
    if (r < static_cast<std::size_t>(rendezvous.rank)) ++process->local_rank_;
  }
  process->region_ = joined.region;
  process->watch_ = std::make_unique<Watch>(std::move(joined.controls), joined.region, options);
  process->make_world(joined, options.start_timeout);
  process->world_->barrier();  // nobody is gone again before everybody has opened what rank 0 holds
  return process;
}

// mpirun does not say where rank 0 is where there are several machines: MPI itself must carry that.
Joined RankProcess::find_others(const Rendezvous& rendezvous, const JoinOptions& options) {
  Endpoint leader = endpoint_of(rendezvous);
  if (!leader.host.empty() || !leader.local_name.empty()) return join_ranks(rendezvous, options, leader);
  start_mpi(options.start_timeout);
  Socket listener;
  if (rank_ == 0) {
    listener = listen_at({});
    leader = {.host = own_addresses(), .port = listener.local_port(), .local_name = ""};
  }
  const auto told = mpi_->broadcast_from_0(detail::join(leader.port, " ", leader.host));
  leader.port = std::atoi(told.c_str());
  leader.host = told.substr(told.find(' ') + 1);
  return join_ranks(rendezvous, options, leader, std::move(listener));
}

void RankProcess::start_mpi(std::chrono::milliseconds timeout) {
  mpi_ = std::make_shared<MpiLibrary>();
  if (launcher_) launcher_->limit("starting Open MPI", timeout);
  mpi_->start(rank_, size_);
  if (launcher_) launcher_->no_limit();
}

void RankProcess::make_world(const Joined& joined, std::chrono::milliseconds timeout) {
  if (transport_ == "shared") {
    world_ = shared_world(joined, rank_, local_size_);
    return;
  }
  std::shared_ptr<Carrier> carrier;
  if (transport_ == "tcp") {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    carrier = make_tcp_mesh(rank_, joined.welcome, joined.data_listener, joined.region, deadline);
  } else {
    if (!mpi_) start_mpi(timeout);
    carrier = make_mpi_carrier(mpi_, joined.region);
  }
  world_ = std::make_unique<ExchangeCommunicator>(std::move(carrier), joined.region, all_ranks(joined), rank_);
}

RankProcess::~RankProcess() {
  if (std::uncaught_exceptions() > exceptions_) abandon("ended with an error");
  world_.reset();
  if (mpi_ && !region_->failed()) mpi_->stop();  // while others still watch, for it waits for all ranks
}

void RankProcess::abandon(std::string_view why) noexcept {
  if (region_) region_->report_failure(rank_, why);
}

JoinOptions join_options(const Environment& environment) {
  JoinOptions options;
  options.facts = {{"version", CAJAL_VERSION}, {"build", build_id()}};
  options.start_timeout = seconds(environment, "CAJAL_START_TIMEOUT", options.start_timeout);
  options.stall_timeout = seconds(environment, "CAJAL_STALL_TIMEOUT", options.stall_timeout);
  options.heartbeat = std::min(options.heartbeat, options.stall_timeout / 4);
  if (const auto found = environment.find("CAJAL_TRANSPORT"); found != environment.end() && !found->second.empty()) {
    options.transport = found->second;
    if (options.transport != "auto" && options.transport != "shared" && options.transport != "tcp" &&
        options.transport != "mpi")
      fail(ErrorCode::invalid_argument, "environment: CAJAL_TRANSPORT is '", options.transport,
           "', expected auto, shared, tcp or mpi");
  }
  return options;
}

}  // namespace cajal
