#pragma once
// This process as one rank among processes, from the moment that all have found each other to its farewell.
#include <memory>

#include "distributed/communicator.h"
#include "distributed/join.h"
#include "distributed/rendezvous.h"

namespace cajal {

class LauncherWatch;
class MpiLibrary;
class Watch;

class RankProcess {
 public:
  // Blocks until all ranks are there; throws what join_ranks throws. From then on a rank that dies or stalls is named in the
  // Error(unavailable) of every call of every rank's communicators, and with options.end_process no process outlives it by
  // more than the grace, nor whoever launched it.
  static std::unique_ptr<RankProcess> join(const Rendezvous& rendezvous, const JoinOptions& options);
  // Says farewell: the others no longer count on this rank. While an exception is in flight they are told that it failed.
  ~RankProcess();
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int local_rank() const { return local_rank_; }  // among the ranks of this machine
  int local_size() const { return local_size_; }
  const std::string& transport() const { return transport_; }  // "shared", "tcp" or "mpi"
  // The group of all ranks. Once; it and its splits must be gone before this is.
  std::unique_ptr<Communicator> take_world() { return std::move(world_); }
  // This rank fails for a reason of its own: the others' calls throw with it. As Communicator::abandon, from any thread.
  void abandon(std::string_view why) noexcept;

 private:
  RankProcess() = default;
  Joined find_others(const Rendezvous& rendezvous, const JoinOptions& options);
  void start_mpi(std::chrono::milliseconds timeout);
  void make_world(const Joined& joined, std::chrono::milliseconds timeout);

  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  int exceptions_ = 0;  // in flight when it was made
  std::string transport_;
  std::unique_ptr<LauncherWatch> launcher_;
  std::shared_ptr<SharedRegion> region_;
  std::unique_ptr<Watch> watch_;
  std::shared_ptr<MpiLibrary> mpi_;
  std::unique_ptr<Communicator> world_;
};

// The options that environment variables set: CAJAL_START_TIMEOUT and CAJAL_STALL_TIMEOUT in seconds, CAJAL_TRANSPORT as
// auto, shared, tcp or mpi. Facts hold version and build. Error(invalid_argument) names the variable.
JoinOptions join_options(const Environment& environment);

}  // namespace cajal
