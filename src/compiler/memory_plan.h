#pragma once
// Gives every intermediate value a fixed offset in one arena, so that running a graph allocates nothing.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace cajal {

constexpr std::size_t kPlanAlignment = 256;

struct Slot {
  std::size_t offset = 0, bytes = 0;  // bytes == 0: no memory of the arena
  std::uint32_t first = 0, last = 0;  // stages between which the memory is taken, both included
};

// When nodes run: all nodes of stage s are done before any of stage s + 1 begins; nodes of one stage may run at the same
// time, in any order.
struct Schedule {
  std::vector<std::uint32_t> stage;  // by node; a leaf's does not matter
};
Schedule sequential_schedule(const Graph& graph);  // one node a stage, in the graph's order

struct MemoryPlan {
  std::vector<Slot> slots;          // by value; leaves and values that share an older one's memory have none
  std::vector<Slot> scratch;        // by node: memory that the node needs only while it runs
  std::vector<std::uint32_t> root;  // by value: the value in whose memory it lies
  std::size_t arena_bytes = 0;
};

// A kernel that does the work of several nodes reads `value` when `node` runs, which need not have it as an input.
struct LateRead {
  Value value;
  std::uint32_t node = 0;
};

// `scratch_bytes` is by node or empty. A graph output stays until the end of the step. The schedule must run a node in a
// later stage than what makes its inputs. Error(data_loss) if the sum of sizes overflows.
MemoryPlan plan_memory(const Graph& graph, const Schedule& schedule, std::span<const std::size_t> scratch_bytes = {},
                       std::span<const LateRead> late_reads = {});

// Plays the schedule over the arena and says the first thing that would go wrong: a node that runs before what it reads is
// made, a value whose bytes were overwritten before its last reader, two nodes of a stage that touch the same bytes, a slot
// beyond the arena. Empty if nothing does. It shares no reasoning with plan_memory: it follows bytes, not lifetimes.
std::string find_overlap(const Graph& graph, const Schedule& schedule, const MemoryPlan& plan);

}  // namespace cajal
