#pragma once
// Where the ranks of a machine compute: memory belongs to a node of cores, and reading a weight from another node's costs
// half of the speed.
#include <sched.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cajal {

struct NumaNode {
  int id = 0;
  std::vector<int> cores;
  bool operator==(const NumaNode&) const = default;
};

// The nodes of a machine that have cores, as the system tells below `root`; none where it tells nothing.
std::vector<NumaNode> numa_nodes(const std::string& root = "/sys/devices/system/node");
// The cores that this process may run on, as its affinity mask and so its cpuset say.
std::vector<int> allowed_cores();
// Of the nodes what is allowed, without those of which nothing is; one node of all that is allowed where none is left.
std::vector<NumaNode> usable_nodes(std::vector<NumaNode> nodes, const std::vector<int>& allowed);
inline std::vector<NumaNode> usable_nodes() { return usable_nodes(numa_nodes(), allowed_cores()); }

struct RankPlacement {
  std::vector<int> nodes;  // by id, that it computes on
  std::vector<int> cores;  // that its threads run on; empty: wherever the system likes
  int num_threads = 1;
  int ranks_here = 1;  // on this machine
  bool operator==(const RankPlacement&) const = default;
};

// Of the r-th of `num_ranks` ranks on this machine, which use `num_threads` together, each at least one. Neighbours are near
// each other: with as many ranks as nodes or more each is on one node, so shared out that the rank with the fewest cores has
// as many as can be, because all wait for the slowest; else each has a run of nodes. A rank has no more threads than cores
// there. Within a node nobody is bound, since the system knows who is waiting, and where there is one node nobody is at all.
RankPlacement place_rank(int r, int num_ranks, int num_threads, const std::vector<NumaNode>& nodes);

// Checksums of a machine's name and of the cores that a process on it may use.
struct RankHome {
  std::uint64_t host = 0, cores = 0;
};
// Whether whoever launched the processes gave each of this machine cores of its own, or left the same to all: a container
// that has some of a machine's cores does that, too.
bool bound_by_launcher(std::span<const RankHome> all, const RankHome& own);

// "0-3,8"
std::string to_cpu_list(const std::vector<int>& cores);
// For people: "node 1 (cores 8-15)"; empty where nothing is bound.
std::string to_string(const RankPlacement& placement);

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
