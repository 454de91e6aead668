#include "compiler/memory_plan.h"

#include <algorithm>
#include <functional>
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
      if (!alias && !is_leaf(node.op))
        plan.slots[id] = {0, round_up(graph.type(node.results[r]).bytes(), kPlanAlignment), stage, stage};
    }
    for (const Value in : node.inputs) {
      Slot& slot = plan.slots[plan.root[in.id]];
      slot.last = std::max(slot.last, stage);
    }
  }
  for (const Value out : graph.outputs()) plan.slots[plan.root[out.id]].last = end;
}

// One after the other, each at the lowest offset that no slot alive at the same time covers. Returns the arena's size.
std::size_t place(std::span<Slot* const> slots) {
  std::size_t arena_bytes = 0;
  std::vector<const Slot*> placed;  // by offset
  for (Slot* slot : slots) {
    slot->offset = 0;
    for (const Slot* other : placed) {
      if (!alive_together(*slot, *other)) continue;
      if (slot->offset + slot->bytes <= other->offset) break;
      slot->offset = std::max(slot->offset, other->offset + other->bytes);  // at most the arena's size so far
    }
    const auto by_offset = [](const Slot* a, const Slot* b) { return a->offset < b->offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), slot, by_offset), slot);
    arena_bytes = std::max(arena_bytes, checked_add(slot->offset, slot->bytes, "memory of a step"));
  }
  return arena_bytes;
}

// No order is best for every graph: the largest first is nearly always as good as can be, and the others help where many
// slots of different sizes overlap by halves.
std::size_t place_well(std::vector<Slot*> slots) {
  const auto stages = [](const Slot* s) { return static_cast<double>(s->last - s->first + 1); };
  const std::function<bool(const Slot*, const Slot*)> orders[] = {
      [](const Slot* a, const Slot* b) { return a->bytes > b->bytes; },
      [&](const Slot* a, const Slot* b) {
        return stages(a) * static_cast<double>(a->bytes) > stages(b) * static_cast<double>(b->bytes);
      },
      [&](const Slot* a, const Slot* b) { return stages(a) > stages(b); },
      [](const Slot* a, const Slot* b) { return a->first < b->first; }};
  std::size_t best = 0;
  std::vector<std::size_t> offsets;
  for (const auto& order : orders) {
    std::vector<Slot*> ordered = slots;
    std::stable_sort(ordered.begin(), ordered.end(), order);
    const std::size_t arena_bytes = place(ordered);
    if (!offsets.empty() && arena_bytes >= best) continue;
    best = arena_bytes;
    offsets.clear();
    for (const Slot* slot : slots) offsets.push_back(slot->offset);
  }
  for (std::size_t i = 0; i < slots.size(); ++i) slots[i]->offset = offsets[i];
  return best;
}

}  // namespace

MemoryPlan plan_memory(const Graph& graph, const Schedule& schedule, std::span<const std::size_t> scratch_bytes,
                       std::span<const LateRead> late_reads) {
  CAJAL_CHECK(schedule.stage.size() == graph.nodes().size());
  CAJAL_CHECK(scratch_bytes.empty() || scratch_bytes.size() == graph.nodes().size());
  MemoryPlan plan;
  plan.slots.resize(graph.num_values());
  plan.root.resize(graph.num_values());
  plan.scratch.resize(graph.nodes().size());
  set_lifetimes(graph, schedule, plan);
  for (const LateRead& read : late_reads) {
    Slot& slot = plan.slots[plan.root[read.value.id]];
    slot.last = std::max(slot.last, schedule.stage[read.node]);
  }
  for (std::uint32_t n = 0; n < scratch_bytes.size(); ++n)
    plan.scratch[n] = {0, round_up(scratch_bytes[n], kPlanAlignment), schedule.stage[n], schedule.stage[n]};

  std::vector<Slot*> slots;
  for (auto* list : {&plan.slots, &plan.scratch})
    for (Slot& slot : *list)
      if (slot.bytes) slots.push_back(&slot);
  plan.arena_bytes = place_well(std::move(slots));
  return plan;
}

}  // namespace cajal
