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

std::vector<std::vector<int>> usable_nodes(const std::string& root) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const bool known = ::sched_getaffinity(0, sizeof allowed, &allowed) == 0;
  std::vector<std::vector<int>> nodes;
  for (const int node : cpus_in(root + "/online")) {
    std::vector<int> cores = cpus_in(detail::join(root, "/node", node, "/cpulist"));
    std::erase_if(cores, [&](int cpu) { return cpu < 0 || (known && !CPU_ISSET(cpu, &allowed)); });
    if (!cores.empty()) nodes.push_back(std::move(cores));
  }
  if (!nodes.empty()) return nodes;
  nodes.emplace_back();
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (known && CPU_ISSET(cpu, &allowed)) nodes[0].push_back(cpu);
  return nodes;
}

RankPlacement place_rank(int r, int num_ranks, int num_threads, const std::vector<std::vector<int>>& nodes) {
  // What does not divide goes to the first ranks, so that no core is idle.
  RankPlacement placement{
      .cores = {}, .num_threads = std::max(1, (num_threads + num_ranks - 1 - r) / num_ranks), .ranks_here = num_ranks};
  const int num_nodes = static_cast<int>(nodes.size());
  if (num_nodes < 2) return placement;
  const int first = r * num_nodes / num_ranks;
  const int end = std::max(first + 1, (r + 1) * num_nodes / num_ranks);
  for (int node = first; node < end; ++node) {
    const std::vector<int>& cores = nodes[static_cast<std::size_t>(node)];
    placement.cores.insert(placement.cores.end(), cores.begin(), cores.end());
  }
  return placement;
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
