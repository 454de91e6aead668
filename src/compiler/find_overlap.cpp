#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "compiler/memory_plan.h"

namespace cajal {
namespace {

constexpr std::int64_t kScratchOwner = -1;

struct Range {
  std::size_t begin, end;
};
bool overlap(const Range& a, const Range& b) { return a.begin < b.end && b.begin < a.end; }

// Who wrote each byte of the arena last.
class Arena {
 public:
  void write(Range r, std::int64_t owner) {
    split(r.begin), split(r.end);
    owners_.erase(owners_.lower_bound(r.begin), owners_.lower_bound(r.end));
    owners_[r.begin] = {r.end, owner};
  }
  bool owned_by(Range r, std::int64_t owner) const {
    std::size_t at = r.begin;
    while (at < r.end) {
      auto it = owners_.upper_bound(at);
      if (it == owners_.begin()) return false;
      --it;
      if (it->second.first <= at || it->second.second != owner) return false;
      at = it->second.first;
    }
    return true;
  }

 private:
  void split(std::size_t at) {
    auto it = owners_.lower_bound(at);
    if (it == owners_.begin()) return;
    --it;
    if (it->second.first <= at) return;
    owners_[at] = it->second;
    it->second.first = at;
  }
  std::map<std::size_t, std::pair<std::size_t, std::int64_t>> owners_;  // begin -> (end, owner)
};

class Player {
 public:
  Player(const Graph& graph, const Schedule& schedule, const MemoryPlan& plan)
      : graph_(graph), schedule_(schedule), plan_(plan), root_(graph.num_values()) {}

  std::string play() {
    for (std::uint32_t n = 0; n < graph_.nodes().size(); ++n)
      if (auto problem = follow(n); !problem.empty()) return problem;
    std::map<std::uint32_t, std::vector<std::uint32_t>> stages;
    for (std::uint32_t n = 0; n < graph_.nodes().size(); ++n)
      if (!is_leaf(graph_.node(n).op)) stages[schedule_.stage[n]].push_back(n);
    for (const auto& [stage, nodes] : stages)
      if (auto problem = play_stage(nodes); !problem.empty()) return problem;
    for (const Value v : graph_.outputs())
      if (auto problem = lost(v, "the end of the step"); !problem.empty()) return problem;
    return {};
  }

 private:
  // Follows a node in the graph's order: whose memory its results are, and what must have run before it.
  std::string follow(std::uint32_t n) {
    const Node& node = graph_.node(n);
    if (is_leaf(node.op)) {
      root_[node.results[0].id] = node.results[0].id;
      return plan_.root[node.results[0].id] == node.results[0].id
                 ? ""
                 : detail::join("leaf ", node.name, " has no memory of its own");
    }
    const std::uint32_t stage = schedule_.stage[n];
    for (const Value v : node.inputs) {
      const std::uint32_t maker = graph_.producer(v);
      if (!is_leaf(graph_.node(maker).op) && schedule_.stage[maker] >= stage)
        return detail::join(node.name, " runs before %", v.id, " is made");
    }
    for (std::size_t r = 0; r < node.results.size(); ++r) {
      const std::uint32_t id = node.results[r].id;
      const auto alias = aliased_input(node.op, static_cast<int>(r));
      root_[id] = alias ? root_[node.inputs[static_cast<std::size_t>(*alias)].id] : id;
      if (plan_.root[id] != root_[id])
        return detail::join("%", id, " lies in %", root_[id], ", not in %", plan_.root[id]);
      if (!overwrites_input(node.op, static_cast<int>(r))) continue;
      // Its older values must have been read by then.
      if (const auto last = last_read_.find(root_[id]); last != last_read_.end() && last->second >= stage)
        return detail::join(node.name, " overwrites %", root_[id], " while it is read");
    }
    for (const Value v : node.inputs) last_read_[root_[v.id]] = std::max(last_read_[root_[v.id]], stage);
    return {};
  }

  // Where a value's bytes are; nothing for memory outside the arena.
  std::optional<Range> range(Value v) const {
    const Slot& slot = plan_.slots[plan_.root[v.id]];
    if (slot.bytes == 0) return std::nullopt;
    // A slot that is nowhere in the arena may lie anywhere: no sum of it may wrap.
    const std::size_t begin = std::min(slot.offset, plan_.arena_bytes + 1);
    return Range{begin, begin + graph_.type(v).bytes()};
  }
  std::string lost(Value v, const std::string& reader) const {
    const auto r = range(v);
    if (!r || arena_.owned_by(*r, plan_.root[v.id])) return {};
    return detail::join("%", v.id, " (", graph_.producer_node(v).name, ") is not in its memory any more at ", reader);
  }

  std::string play_stage(const std::vector<std::uint32_t>& nodes) {
    struct Touch {
      Range range;
      std::uint32_t node;
      bool write;
      std::int64_t owner;
    };
    std::vector<Touch> touches;
    for (const auto n : nodes) {
      const Node& node = graph_.node(n);
      for (const Value v : node.inputs) {
        if (auto problem = lost(v, node.name); !problem.empty()) return problem;
        if (const auto r = range(v)) touches.push_back({*r, n, false, plan_.root[v.id]});
      }
      for (std::size_t i = 0; i < node.results.size(); ++i) {
        const auto r = range(node.results[i]);
        const bool own_memory = plan_.root[node.results[i].id] == node.results[i].id;
        if (r && own_memory) touches.push_back({*r, n, true, node.results[i].id});
        if (!r && own_memory && graph_.type(node.results[i]).bytes() > 0)
          return detail::join("%", node.results[i].id, " has no memory");
      }
      if (const Slot& s = plan_.scratch[n]; s.bytes) {
        const std::size_t begin = std::min(s.offset, plan_.arena_bytes + 1);
        touches.push_back({{begin, begin + std::min(s.bytes, plan_.arena_bytes + 1)}, n, true, kScratchOwner - n});
      }
    }
    for (std::size_t a = 0; a < touches.size(); ++a) {
      if (touches[a].range.end > plan_.arena_bytes)
        return detail::join("node ", touches[a].node, " reaches beyond the arena");
      for (std::size_t b = a + 1; b < touches.size(); ++b)
        if ((touches[a].write || touches[b].write) && touches[a].owner != touches[b].owner &&
            overlap(touches[a].range, touches[b].range))
          return detail::join("nodes ", touches[a].node, " and ", touches[b].node, " (",
                              graph_.node(touches[b].node).name, ") touch the same bytes at the same time");
    }
    for (const Touch& touch : touches)
      if (touch.write) arena_.write(touch.range, touch.owner);
    return {};
  }

  const Graph& graph_;
  const Schedule& schedule_;
  const MemoryPlan& plan_;
  Arena arena_;
  std::vector<std::uint32_t> root_;                   // by value, found here anew
  std::map<std::uint32_t, std::uint32_t> last_read_;  // by memory: the last stage so far that reads it
};

}  // namespace

std::string find_overlap(const Graph& graph, const Schedule& schedule, const MemoryPlan& plan) {
  return Player(graph, schedule, plan).play();
}

}  // namespace cajal
