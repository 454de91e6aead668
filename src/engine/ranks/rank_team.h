#pragma once
// The ranks of a model, each with its own part of the machine: threads of this process, or processes that somebody launched.
// Rank 0 is where requests come to and answers leave; all others carry out what it says.
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backends/backend.h"
#include "distributed/rank_process.h"
#include "distributed/ranks.h"
#include "engine/ranks/placement.h"
#include "engine/ranks/rank_leader.h"

namespace cajal {

struct RankTeamOptions {
  ParallelDegrees degrees;
  std::string device = "auto";
  // num_threads are those of all ranks on this machine together, of which each has at least one; 0: as many as the cores that
  // this process may use, or its share of the machine's where a launcher has not bound it to some.
  BackendOptions backend = {};
};

// Error(unsupported) for a device, or the device of a target, that cannot be one of several ranks yet.
void check_rank_device(const std::string& device, const std::string& target);

// The degrees that a model runs with: those that are wanted, absent 1, and of an export its own. Error(invalid_argument) with
// both numbers where an export was made for others.
ParallelDegrees agreed_degrees(const std::string& folder, std::optional<int> tensor, std::optional<int> expert);

// Rank 0 of a team.
class RankTeam {
 public:
  // Starts the other ranks as threads. Throws what check_rank_device says.
  explicit RankTeam(const RankTeamOptions& options);
  // The other ranks are processes, each in follow_rank_0.
  RankTeam(const RankTeamOptions& options, std::unique_ptr<RankProcess> process);
  ~RankTeam();  // tells the ranks to stop, and waits for threads
  RankTeam(const RankTeam&) = delete;
  RankTeam& operator=(const RankTeam&) = delete;

  const ParallelDegrees& degrees() const { return degrees_; }
  // What this rank computes on. Models are loaded with ModelOptions::ranks = &leader().
  Backend& backend() { return *backend_; }
  RankLeader& leader() { return *leader_; }
  std::string description() const;  // for people: "2 threads as ranks, each cpu (avx2, 4 threads)"
  // Where this rank's threads run, for whoever calls in its name: BoundToCores(team.cores()).
  const std::vector<int>& cores() const { return cores_; }
  // The rank that is lost and how; empty while all are there. Nothing can be asked of the team then. Any thread.
  std::string failure() const { return groups_[0].world->failure(); }

 private:
  void start_threads(const RankTeamOptions& options, int num_threads, const std::vector<NumaNode>& nodes);
  void lead(const RankTeamOptions& options, const RankPlacement& placement);
  void stop() noexcept;

  ParallelDegrees degrees_;
  std::unique_ptr<RankProcess> process_;
  std::vector<RankGroups> groups_;  // by rank, of this process
  std::vector<int> cores_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<RankLeader> leader_;
  std::vector<std::thread> threads_;
};

// The life of a process that is another rank than 0: until that one says stop. Throws Error for what ended it before, of
// which the others have been told.
void follow_rank_0(const RankTeamOptions& options, std::unique_ptr<RankProcess> process);

}  // namespace cajal
