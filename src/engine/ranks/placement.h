#pragma once
// Where the ranks of a machine compute: memory belongs to a node of cores, and reading a weight from another node's costs
// half of the speed.
#include <sched.h>

#include <string>
#include <vector>

namespace cajal {

// The cores of each node that this process may use, as the system tells below `root`; nodes without any are left out. One
// list of all of them where it tells nothing.
std::vector<std::vector<int>> usable_nodes(const std::string& root = "/sys/devices/system/node");

struct RankPlacement {
  std::vector<int> cores;  // that its threads run on; empty: wherever the system likes
  int num_threads = 1;
  int ranks_here = 1;  // on this machine
};

// Of the r-th of `num_ranks` ranks on this machine, which use `num_threads` together. Ranks are shared out over nodes in
// their order, so that neighbours are near each other. Within a node nobody is bound: the system knows who is waiting.
RankPlacement place_rank(int r, int num_ranks, int num_threads, const std::vector<std::vector<int>>& nodes);

// While this lives, the calling thread and those that it starts run on these cores. Memory that they touch first lies beside
// them then. None: nothing changes.
class BoundToCores {
 public:
  explicit BoundToCores(const std::vector<int>& cores);
  ~BoundToCores();
  BoundToCores(const BoundToCores&) = delete;
  BoundToCores& operator=(const BoundToCores&) = delete;

 private:
  bool bound_ = false;
  cpu_set_t before_{};
};

}  // namespace cajal
