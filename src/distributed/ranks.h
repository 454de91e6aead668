#pragma once
// The ranks of a model: tp x ep of them in a grid, rank = ep_rank * tp + tp_rank, so that neighbours share layers.
//
// Threads:    auto ranks = make_thread_rank_groups(degrees);
// Processes:  const auto environment = process_environment();
//             if (const auto rendezvous = find_rendezvous(environment)) {           // launched as one rank of several
//               JoinOptions options = join_options(environment);
//               options.facts.emplace_back("model", fingerprint);                   // … whatever must be the same
//               const auto process = RankProcess::join(*rendezvous, options);       // rank_process.h
//               RankGroups groups = make_rank_groups(process->take_world(), degrees);
#include <memory>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/thread_group.h"

namespace cajal {

struct ParallelDegrees {
  int tensor = 1;  // ranks that share every layer
  int expert = 1;  // groups of such ranks that share the experts
  int world() const { return tensor * expert; }
  int tensor_rank(int rank) const { return rank % tensor; }
  int expert_rank(int rank) const { return rank / tensor; }
};

// One rank's view. The groups have the same members where a degree is 1, but are groups of their own all the same.
struct RankGroups {
  std::unique_ptr<Communicator> world;
  std::unique_ptr<Communicator> tensor;  // those with this rank's expert_rank, ordered by tensor_rank
  std::unique_ptr<Communicator> expert;  // those with this rank's tensor_rank, ordered by expert_rank
};

// Every rank of `world` calls it. Error(invalid_argument) with the numbers where the degrees do not make up its size.
RankGroups make_rank_groups(std::unique_ptr<Communicator> world, const ParallelDegrees& degrees);

// Ranks as threads of this process: the r-th element goes to the thread that is rank r.
std::vector<RankGroups> make_thread_rank_groups(const ParallelDegrees& degrees, const ThreadGroupOptions& options = {});

}  // namespace cajal
