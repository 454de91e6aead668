#pragma once
// The ranks of a model: tp x ep of them in a grid, rank = ep_rank * tp + tp_rank, so that neighbours share layers.
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
