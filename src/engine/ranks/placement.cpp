#include "engine/ranks/placement.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string_view>

#include "base/file.h"
#include "base/log.h"

namespace cajal {
namespace {

// "0-3,8": what is no such list ends it.
std::vector<int> parse_cpu_list(std::string_view text) {
  std::vector<int> cpus;
  const char *at = text.data(), *const end = at + text.size();
  while (at < end) {
    int first = 0;
    auto [next, error] = std::from_chars(at, end, first);
    int last = first;
    if (error != std::errc()) break;
    if (next < end && *next == '-') {
      const auto range = std::from_chars(next + 1, end, last);
      if (range.ec != std::errc()) break;
      next = range.ptr;
    }
    for (int cpu = first; cpu <= std::min(last, CPU_SETSIZE - 1); ++cpu) cpus.push_back(cpu);
    at = next < end && *next == ',' ? next + 1 : end;
  }
  return cpus;
}

std::vector<int> cpus_in(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return parse_cpu_list(line);
}

}  // namespace

std::vector<NumaNode> numa_nodes(const std::string& root) {
  std::vector<NumaNode> nodes;
  for (const int id : cpus_in(root + "/online")) {
    NumaNode node{id, cpus_in(detail::join(root, "/node", id, "/cpulist"))};
    if (!node.cores.empty()) nodes.push_back(std::move(node));
  }
  return nodes;
}

std::vector<int> allowed_cores() {
  std::vector<int> cores;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &allowed)) cores.push_back(cpu);
  return cores;
}

std::vector<NumaNode> usable_nodes(std::vector<NumaNode> nodes, const std::vector<int>& allowed) {
  for (NumaNode& node : nodes)
    std::erase_if(node.cores, [&](int cpu) { return std::find(allowed.begin(), allowed.end(), cpu) == allowed.end(); });
  std::erase_if(nodes, [](const NumaNode& node) { return node.cores.empty(); });
  if (nodes.empty()) nodes.push_back({0, allowed});
  return nodes;
}

namespace {

// How many of the ranks each node gets: one after the other goes where it leaves most cores to each, which makes the fewest
// that a rank has as many as they can be.
std::vector<int> ranks_by_node(int num_ranks, const std::vector<NumaNode>& nodes) {
  std::vector<int> ranks(nodes.size(), 0);
  for (int r = 0; r < num_ranks; ++r) {
    std::size_t best = 0;
    for (std::size_t n = 1; n < nodes.size(); ++n)
      if (std::ssize(nodes[n].cores) * (ranks[best] + 1) > std::ssize(nodes[best].cores) * (ranks[n] + 1)) best = n;
    ++ranks[best];
  }
  return ranks;
}

}  // namespace

RankPlacement place_rank(int r, int num_ranks, int num_threads, const std::vector<NumaNode>& nodes) {
  // What does not divide goes to the first ranks, so that no core is idle.
  RankPlacement placement{.num_threads = std::max(1, (num_threads + num_ranks - 1 - r) / num_ranks),
                          .ranks_here = num_ranks};
  const int num_nodes = static_cast<int>(nodes.size());
  if (num_nodes < 2) return placement;
  std::size_t first = static_cast<std::size_t>(r * num_nodes / num_ranks);
  std::size_t end = static_cast<std::size_t>((r + 1) * num_nodes / num_ranks);
  int ranks_on_it = 1;
  if (num_ranks >= num_nodes) {
    const std::vector<int> ranks = ranks_by_node(num_ranks, nodes);
    first = 0;
    for (int before = ranks[0]; before <= r; before += ranks[first]) ++first;
    end = first + 1;
    ranks_on_it = ranks[first];
  }
  for (std::size_t node = first; node < end; ++node) {
    placement.nodes.push_back(nodes[node].id);
    placement.cores.insert(placement.cores.end(), nodes[node].cores.begin(), nodes[node].cores.end());
  }
  const int room = static_cast<int>(placement.cores.size()) / ranks_on_it;
  placement.num_threads = std::max(1, std::min(placement.num_threads, room));
  return placement;
}

bool bound_by_launcher(std::span<const RankHome> all, const RankHome& own) {
  return std::any_of(all.begin(), all.end(),
                     [&](const RankHome& other) { return other.host == own.host && other.cores != own.cores; });
}

std::string to_cpu_list(const std::vector<int>& cores) {
  std::string text;
  for (std::size_t i = 0; i < cores.size();) {
    std::size_t last = i;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    text += detail::join(text.empty() ? "" : ",", cores[i]);
    if (last > i) text += detail::join("-", cores[last]);
    i = last + 1;
  }
  return text;
}

std::string to_string(const RankPlacement& placement) {
  if (placement.cores.empty()) return "";
  return detail::join(placement.nodes.size() == 1 ? "node " : "nodes ", to_cpu_list(placement.nodes), " (cores ",
                      to_cpu_list(placement.cores), ")");
}

BoundToCores::BoundToCores(const std::vector<int>& cores) {
  if (cores.empty() || ::sched_getaffinity(0, sizeof before_, &before_) != 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cores) CPU_SET(cpu, &set);
  bound_ = ::sched_setaffinity(0, sizeof set, &set) == 0;
  if (!bound_) log_warning("this rank's threads cannot be bound to the cores of a NUMA node; weights may be far away");
}

BoundToCores::~BoundToCores() {
  if (bound_) ::sched_setaffinity(0, sizeof before_, &before_);
}

}  // namespace cajal
