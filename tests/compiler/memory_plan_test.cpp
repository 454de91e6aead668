#include "compiler/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <map>
#include <random>

#include "compiler/model_graphs.h"
#include "compiler/passes.h"
#include "graph/random_graph.h"

namespace cajal {
namespace {

constexpr std::array<std::string_view, 3> kAll = {kAddRmsNorm, kSiluMulHalves, kQkNormRopeKvWrite};

// Nodes as early as they can run, delayed at random: several share a stage.
Schedule random_schedule(const Graph& graph, std::mt19937& random) {
  Schedule schedule;
  std::map<std::uint32_t, std::uint32_t> read;  // by memory: the first stage that may overwrite it
  std::vector<std::uint32_t> root(graph.num_values());
  for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.node(n);
    std::uint32_t stage = 0;
    for (const Value v : node.inputs)
      if (!is_leaf(graph.producer_node(v).op)) stage = std::max(stage, schedule.stage[graph.producer(v)] + 1);
    for (std::size_t r = 0; r < node.results.size(); ++r) {
      const auto alias = aliased_input(node.op, static_cast<int>(r));
      const std::uint32_t id = node.results[r].id;
      root[id] = alias ? root[node.inputs[static_cast<std::size_t>(*alias)].id] : id;
      if (overwrites_input(node.op, static_cast<int>(r))) stage = std::max(stage, read[root[id]]);
    }
    if (random() % 3 == 0) stage += static_cast<std::uint32_t>(random() % 4);
    schedule.stage.push_back(stage);
    if (!is_leaf(node.op))
      for (const Value v : node.inputs) read[root[v.id]] = std::max(read[root[v.id]], stage + 1);
  }
  return schedule;
}

std::vector<std::size_t> random_scratch(const Graph& graph, std::mt19937& random) {
  std::vector<std::size_t> bytes(graph.nodes().size());
  for (std::uint32_t n = 0; n < bytes.size(); ++n)
    if (!is_leaf(graph.node(n).op) && random() % 3 == 0) bytes[n] = random() % 5000;
  return bytes;
}

std::vector<Graph> some_graphs() {
  std::vector<Graph> graphs;
  for (auto& [name, model] : test::small_models()) {
    graphs.push_back(fuse_regions(fuse_projections(model), kAll));
    graphs.push_back(std::move(model));
  }
  for (unsigned seed = 0; seed < 50; ++seed) {
    graphs.push_back(test::random_graph(seed));
    graphs.push_back(eliminate_dead_code(fuse_regions(graphs.back(), kAll)));
  }
  return graphs;
}

// The most bytes that are alive in one stage: no plan can do with less.
std::size_t most_alive(const MemoryPlan& plan) {
  std::map<std::uint32_t, std::ptrdiff_t> change;
  for (const auto* slots : {&plan.slots, &plan.scratch})
    for (const Slot& slot : *slots)
      if (slot.bytes)
        change[slot.first] += static_cast<std::ptrdiff_t>(slot.bytes),
            change[slot.last + 1] -= static_cast<std::ptrdiff_t>(slot.bytes);
  std::ptrdiff_t now = 0, most = 0;
  for (const auto& [stage, delta] : change) most = std::max(most, now += delta);
  return static_cast<std::size_t>(most);
}

TEST(MemoryPlan, NoTwoLiveValuesShareAByteAndFewBytesLieIdle) {
  std::mt19937 random(5);
  for (const Graph& graph : some_graphs())
    for (int i = 0; i < 4; ++i) {
      const Schedule schedule = i == 0 ? sequential_schedule(graph) : random_schedule(graph, random);
      const auto scratch = i % 2 ? random_scratch(graph, random) : std::vector<std::size_t>();
      const MemoryPlan plan = plan_memory(graph, schedule, scratch);
      EXPECT_EQ(find_overlap(graph, schedule, plan), "");
      EXPECT_LE(static_cast<double>(plan.arena_bytes), 1.25 * static_cast<double>(most_alive(plan)));
      for (const Slot& slot : plan.slots) EXPECT_EQ(slot.offset % kPlanAlignment, 0u);
      for (std::uint32_t n = 0; n < scratch.size(); ++n) EXPECT_GE(plan.scratch[n].bytes, scratch[n]);
    }
}

TEST(MemoryPlan, HoldsForTheReleasedModels) {
  for (const std::string& folder : test::released_models())
    for (const Bucket& bucket : test::some_buckets()) {
      const Graph graph =
          fuse_regions(fuse_projections(build_qwen3(load_qwen3_config(folder), {.bucket = bucket})), kAll);
      const Schedule schedule = sequential_schedule(graph);
      const MemoryPlan plan = plan_memory(graph, schedule);
      EXPECT_EQ(find_overlap(graph, schedule, plan), "") << folder;
      EXPECT_LE(static_cast<double>(plan.arena_bytes), 1.25 * static_cast<double>(most_alive(plan))) << folder;
    }
}

TEST(MemoryPlan, KeepsOutputsToTheEndAndViewsInTheMemoryOfTheirInput) {
  Graph g;
  const Value x = g.add_leaf(ops::Input{"x"}, {DType::f32, {4, 64}, Plain{}}, "x");
  const Value first = g.add(ops::Add{}, {x, x}, "first");
  const Value view = g.add(ops::Reshape{{4, 4, 16}}, {first}, "view");
  Value y = first;
  for (int i = 0; i < 4; ++i) y = g.add(ops::Add{}, {y, y}, "later");
  g.set_outputs({view, y});
  const MemoryPlan plan = plan_memory(g, sequential_schedule(g));
  EXPECT_EQ(plan.root[view.id], first.id);
  EXPECT_EQ(plan.slots[view.id].bytes, 0u);
  EXPECT_EQ(plan.slots[x.id].bytes, 0u);
  EXPECT_EQ(plan.slots[first.id].last, plan.slots[y.id].last);
  EXPECT_EQ(plan.arena_bytes, 3u * 1024);
}

TEST(MemoryPlan, KeepsAValueForAKernelThatReadsItLate) {
  Graph g;
  const Value x = g.add_leaf(ops::Input{"x"}, {DType::f32, {4, 64}, Plain{}}, "x");
  const Value first = g.add(ops::Add{}, {x, x}, "first");
  const Value second = g.add(ops::Add{}, {first, first}, "second");
  const Value third = g.add(ops::Add{}, {second, second}, "third");
  const Value fourth = g.add(ops::Add{}, {third, third}, "fourth");
  g.set_outputs({fourth});
  const Schedule schedule = sequential_schedule(g);
  EXPECT_EQ(plan_memory(g, schedule).arena_bytes, 2u * 1024);
  const LateRead late{first, g.producer(third)};
  const MemoryPlan plan = plan_memory(g, schedule, {}, {&late, 1});
  EXPECT_EQ(plan.arena_bytes, 3u * 1024);
  for (const Value v : {second, third}) EXPECT_NE(plan.slots[v.id].offset, plan.slots[first.id].offset);
}

TEST(MemoryPlan, RefusesSumsThatOverflow) {
  Graph g;
  const Value x = g.add_leaf(ops::Input{"x"}, {DType::u8, {1, 1}, Plain{}}, "x");
  g.set_outputs({g.add(ops::Add{}, {x, x}, "y")});
  const std::vector<std::size_t> scratch = {0, std::numeric_limits<std::size_t>::max() / 256 * 256};
  EXPECT_THROW(plan_memory(g, sequential_schedule(g), scratch), Error);
}

class PlantedFault : public testing::Test {
 protected:
  // Calls body(graph, schedule, plan) for plans without a fault.
  template <class Body>
  void for_each_plan(const Body& body) {
    std::mt19937 random(9);
    for (unsigned seed = 0; seed < 40; ++seed) {
      const Graph graph = test::random_graph(seed);
      const Schedule schedule = seed % 2 ? random_schedule(graph, random) : sequential_schedule(graph);
      body(graph, schedule, plan_memory(graph, schedule, random_scratch(graph, random)));
    }
  }
};

TEST_F(PlantedFault, AValueMadeOverOneThatIsStillToBeRead) {
  int planted = 0;
  for_each_plan([&](const Graph& graph, const Schedule& schedule, const MemoryPlan& plan) {
    for (std::uint32_t a = 0; a < graph.num_values(); ++a)
      for (std::uint32_t b = 0; b < graph.num_values(); ++b) {
        const Slot &one = plan.slots[a], &other = plan.slots[b];
        if (a == b || !one.bytes || !other.bytes || other.first < one.first || other.first > one.last) continue;
        MemoryPlan broken = plan;
        broken.slots[b].offset = one.offset;
        broken.arena_bytes = std::max(broken.arena_bytes, one.offset + other.bytes);
        EXPECT_NE(find_overlap(graph, schedule, broken), "") << '%' << b << " over %" << a;
        ++planted;
      }
  });
  EXPECT_GT(planted, 1000);
}

TEST_F(PlantedFault, ScratchOverAValueOfTheSameStage) {
  int planted = 0;
  for_each_plan([&](const Graph& graph, const Schedule& schedule, const MemoryPlan& plan) {
    for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) {
      if (!plan.scratch[n].bytes || is_leaf(graph.node(n).op)) continue;
      for (const auto& list : {graph.node(n).inputs, graph.node(n).results})
        for (const Value v : list) {
          const Slot& slot = plan.slots[plan.root[v.id]];
          if (!slot.bytes || std::holds_alternative<ops::Reshape>(graph.node(n).op)) continue;
          MemoryPlan broken = plan;
          broken.scratch[n].offset = slot.offset;
          EXPECT_NE(find_overlap(graph, schedule, broken), "");
          ++planted;
        }
    }
  });
  EXPECT_GT(planted, 50);
}

TEST_F(PlantedFault, ASlotBeyondTheArenaOrWithoutMemory) {
  for_each_plan([&](const Graph& graph, const Schedule& schedule, const MemoryPlan& plan) {
    for (std::uint32_t v = 0; v < graph.num_values(); ++v) {
      if (!plan.slots[v].bytes) continue;
      for (const std::size_t offset : {plan.arena_bytes, plan.arena_bytes - plan.slots[v].bytes + 256,
                                       std::numeric_limits<std::size_t>::max() - 255}) {
        MemoryPlan broken = plan;
        broken.slots[v].offset = offset;
        EXPECT_NE(find_overlap(graph, schedule, broken), "")
            << '%' << v << " at " << offset << " of " << plan.arena_bytes;
      }
      MemoryPlan broken = plan;
      broken.slots[v].bytes = 0;
      EXPECT_NE(find_overlap(graph, schedule, broken), "");
    }
  });
}

TEST_F(PlantedFault, AValueInTheMemoryOfAnother) {
  for_each_plan([&](const Graph& graph, const Schedule& schedule, const MemoryPlan& plan) {
    std::uint32_t other = 0;
    for (std::uint32_t v = 0; v < graph.num_values(); ++v) {
      MemoryPlan broken = plan;
      broken.root[v] = other;
      if (plan.root[v] != other) {
        EXPECT_NE(find_overlap(graph, schedule, broken), "") << '%' << v << " in %" << other;
      }
      other = v;
    }
  });
}

TEST_F(PlantedFault, ANodeThatRunsTooEarly) {
  for_each_plan([&](const Graph& graph, const Schedule& schedule, const MemoryPlan&) {
    for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) {
      bool reads_a_result = false;
      for (const Value v : graph.node(n).inputs) reads_a_result |= !is_leaf(graph.producer_node(v).op);
      if (!reads_a_result) continue;
      Schedule broken = schedule;
      broken.stage[n] = schedule.stage[graph.producer(graph.node(n).inputs[0])];
      for (const Value v : graph.node(n).inputs)
        if (!is_leaf(graph.producer_node(v).op)) broken.stage[n] = schedule.stage[graph.producer(v)];
      EXPECT_NE(find_overlap(graph, broken, plan_memory(graph, broken)), "");
    }
  });
}

TEST_F(PlantedFault, ACacheWrittenWhileItIsRead) {
  Graph g;
  const TensorType cache{DType::f32, {Shape::kDynamic, 1, 64, 8}, Plain{}};
  const Value k = g.add_leaf(ops::State{"k"}, cache, "k"),
              x = g.add_leaf(ops::Input{"x"}, {DType::f32, {4, 1, 8}, Plain{}}, "x");
  const Value i = g.add_leaf(ops::Input{"i"}, {DType::i32, {4}, Plain{}}, "i"),
              t = g.add_leaf(ops::Input{"t"}, {DType::i32, {1, 1}, Plain{}}, "t");
  const Value read = g.add(ops::PagedAttention{}, {x, k, k, t, i, i}, "read");
  g.add(ops::KvWrite{}, {k, x, i}, "write");
  g.set_outputs({read});
  Schedule schedule = sequential_schedule(g);
  EXPECT_EQ(find_overlap(g, schedule, plan_memory(g, schedule)), "");
  schedule.stage[5] = schedule.stage[4];
  EXPECT_THAT(find_overlap(g, schedule, plan_memory(g, schedule)),
              testing::HasSubstr("write overwrites %0 while it is read"));
}

}  // namespace
}  // namespace cajal
