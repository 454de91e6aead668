#include "compiler/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "base/checked.h"

namespace cajal {

Schedule sequential_schedule(const Graph& graph) {
  Schedule schedule;
  schedule.stage.resize(graph.nodes().size());
  std::iota(schedule.stage.begin(), schedule.stage.end(), 0u);
  return schedule;
}

namespace {

bool alive_together(const Slot& a, const Slot& b) { return a.first <= b.last && b.first <= a.last; }

void set_lifetimes(const Graph& graph, const Schedule& schedule, MemoryPlan& plan) {
  std::uint32_t end = 0;
  for (const auto stage : schedule.stage) end = std::max(end, stage + 1);
  for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.node(n);
    const std::uint32_t stage = schedule.stage[n];
    for (std::size_t r = 0; r < node.results.size(); ++r) {
      const std::uint32_t id = node.results[r].id;
      const auto alias = aliased_input(node.op, static_cast<int>(r));
      plan.root[id] = alias ? plan.root[node.inputs[static_cast<std::size_t>(*alias)].id] : id;
      if (!alias && !is_leaf(node.op)) plan.slots[id] = {0, round_up(graph.type(node.results[r]).bytes(), kPlanAlignment), stage, stage};
    }
    for (const Value in : node.inputs) {
      Slot& slot = plan.slots[plan.root[in.id]];
      slot.last = std::max(slot.last, stage);
    }
  }
  for (const Value out : graph.outputs()) plan.slots[plan.root[out.id]].last = end;
}

// Largest first, each at the lowest offset that no slot alive at the same time covers.
void place(std::vector<Slot*> slots, std::size_t& arena_bytes) {
  std::stable_sort(slots.begin(), slots.end(), [](const Slot* a, const Slot* b) { return a->bytes > b->bytes; });
  std::vector<const Slot*> placed;  // by offset
  for (Slot* slot : slots) {
    for (const Slot* other : placed) {
      if (!alive_together(*slot, *other)) continue;
      if (slot->offset + slot->bytes <= other->offset) break;
      slot->offset = std::max(slot->offset, other->offset + other->bytes);
    }
    const auto by_offset = [](const Slot* a, const Slot* b) { return a->offset < b->offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), slot, by_offset), slot);
    arena_bytes = std::max(arena_bytes, slot->offset + slot->bytes);
  }
}

}  // namespace

MemoryPlan plan_memory(const Graph& graph, const Schedule& schedule, std::span<const std::size_t> scratch_bytes) {
  CAJAL_CHECK(schedule.stage.size() == graph.nodes().size());
  MemoryPlan plan;
  plan.slots.resize(graph.num_values());
  plan.root.resize(graph.num_values());
  plan.scratch.resize(graph.nodes().size());
  set_lifetimes(graph, schedule, plan);
  for (std::uint32_t n = 0; n < scratch_bytes.size(); ++n)
    plan.scratch[n] = {0, round_up(scratch_bytes[n], kPlanAlignment), schedule.stage[n], schedule.stage[n]};

  std::vector<Slot*> slots;
  for (auto* list : {&plan.slots, &plan.scratch})
    for (Slot& slot : *list)
      if (slot.bytes) slots.push_back(&slot);
  place(std::move(slots), plan.arena_bytes);
  return plan;
}

}  // namespace cajal
