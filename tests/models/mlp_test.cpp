#include "models/mlp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/thread_pool.h"
#include "checkpoint/dummy_weights.h"
#include "compiler/model_graphs.h"

namespace cajal {
namespace {

using testing::HasSubstr;

Graph build(const Qwen3Config& c, Parallelism parallel, std::optional<double> capacity_factor = {}) {
  Graph graph = build_qwen3(
      c, {.bucket = {8, 2, 2, 2}, .dtype = DType::f32, .parallel = parallel, .capacity_factor = capacity_factor});
  verify(graph);
  return graph;
}
std::string why(const Qwen3Config& c, Parallelism parallel, std::optional<double> capacity_factor = {}) {
  try {
    build(c, parallel, capacity_factor);
    return "built";
  } catch (const Error& e) {
    return e.what();
  }
}
template <class OpType>
std::vector<const Node*> nodes_of(const Graph& graph) {
  std::vector<const Node*> nodes;
  for (const Node& node : graph.nodes())
    if (std::holds_alternative<OpType>(node.op)) nodes.push_back(&node);
  return nodes;
}

TEST(SparseMoeBlock, SumsOverAllRanksOnceALayerAndInF32) {
  for (const Qwen3Config& c : {test::small_config(true), test::small_qwen2_moe()}) {
    const Graph graph = build(c, {2, 2});
    ASSERT_EQ(nodes_of<ops::ExpertOutputs>(graph).size(), 2u);
    EXPECT_TRUE(nodes_of<ops::MoeExperts>(graph).empty());
    std::size_t over_the_world = 0;
    for (const Node* node : nodes_of<ops::AllReduce>(graph)) {
      const auto& op = std::get<ops::AllReduce>(node->op);
      if (op.group != RankGroup::world) continue;
      ++over_the_world;
      EXPECT_TRUE(std::holds_alternative<ops::ExpertOutputs>(graph.producer_node(node->inputs[0]).op));
      EXPECT_EQ(op.dtype, DType::f32);
    }
    EXPECT_EQ(over_the_world, 2u);
  }
}

TEST(SparseMoeBlock, IsOneOpOnOneRank) {
  const Graph graph = build(test::small_config(true), {1, 1});
  EXPECT_EQ(nodes_of<ops::MoeExperts>(graph).size(), 2u);
  EXPECT_TRUE(nodes_of<ops::AllReduce>(graph).empty());
}

TEST(SparseMoeBlock, IsNotNeededForSeveralGroups) {
  EXPECT_EQ(to_text(build(test::small_config(false), {2, 3})), to_text(build(test::small_config(false), {2, 1})));
}

TEST(SparseMoeBlock, RefusesDegreesWithTheNumbers) {
  const Qwen3Config c = test::small_config(true);
  EXPECT_EQ(why(c, {1, 6}), "built");
  EXPECT_THAT(why(c, {1, 7}), HasSubstr("expert_parallel_size is 7, and the model has 6 experts"));
  EXPECT_THAT(why(c, {1, 0}), HasSubstr("expert_parallel_size is 0, expected 1 or more"));
}

TEST(SparseMoeBlock, HasACapacityWhereItCouldBeFull) {
  const Qwen3Config c = test::small_config(true);  // 2 of 6
  const auto factor_of = [&](double factor) {
    const Graph graph = build(c, {1, 1}, factor);
    return std::get<ops::Router>(nodes_of<ops::Router>(graph).at(0)->op).capacity_factor;
  };
  EXPECT_EQ(factor_of(1.25), 1.25);
  EXPECT_EQ(factor_of(2.9), 2.9);
  EXPECT_EQ(factor_of(3), 0) << "every row fits";
  EXPECT_EQ(nodes_of<ops::Router>(build(c, {1, 1}, 1.25)).at(0)->inputs.size(), 2u);
  EXPECT_THAT(why(c, {1, 1}, 0.0), HasSubstr("capacity_factor is 0, expected a number above 0"));
  EXPECT_THAT(why(test::small_config(false), {1, 1}, 1.0), HasSubstr("the model has no experts"));
  const Graph graph = build(c, {1, 1}, 1.1);
  EXPECT_EQ(to_text(parse_graph(to_text(graph), "text")), to_text(graph));
}

std::vector<float> filled(const Graph& graph, const std::string& name, TensorParallelRank rank) {
  const Value leaf = *graph.find_leaf(name);
  const TensorType& type = graph.type(leaf);
  ThreadPool pool(1);
  Staging staging(pool);
  std::vector<std::byte> bytes(type.bytes(), std::byte{0xff});
  fill_dummy({std::get<ops::Parameter>(graph.producer_node(leaf).op), type, rank}, 7, bytes.data(), staging);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Of a rank's [L, rows, columns] the element of the whole that stands at (expert, row, column), or zero beyond it.
struct Whole {
  std::vector<float> values;
  std::int64_t experts, rows, columns;
  float at(std::int64_t e, std::int64_t r, std::int64_t c) const {
    const bool there = e < experts && r < rows && c < columns;
    return there ? values[static_cast<std::size_t>((e * rows + r) * columns + c)] : 0.0f;
  }
};

// Shares that are put together are the whole: every rank's experts are ceil(E / ep) from its own on, its inner columns
// ceil(I / tp) from its own on, and what is beyond is zero.
void expect_shares_of(const Qwen3Config& c, int tp, int ep) {
  const std::string experts = "model.layers.0.mlp.experts.";
  const std::int64_t inner = c.moe_intermediate_size, hidden = c.hidden_size;
  const Graph whole = build(c, {1, 1}), share = build(c, {tp, ep});
  const Whole gate_up{filled(whole, experts + "gate_up_proj", {}), c.num_experts, 2 * inner, hidden};
  const Whole down{filled(whole, experts + "down_proj", {}), c.num_experts, hidden, inner};
  const std::int64_t most = (c.num_experts + ep - 1) / ep, columns = (inner + tp - 1) / tp;
  ASSERT_EQ(share.type(*share.find_leaf(experts + "down_proj")).shape, (Shape{most, hidden, columns}));
  for (int rank = 0; rank < tp * ep; ++rank) {
    const TensorParallelRank here{rank % tp, tp, rank / tp, ep};
    const auto my_gate_up = filled(share, experts + "gate_up_proj", here);
    const auto my_down = filled(share, experts + "down_proj", here);
    std::vector<float> want_gate_up, want_down;
    for (std::int64_t e = here.expert_rank * most; e < (here.expert_rank + 1) * most; ++e) {
      for (std::int64_t half = 0; half < 2; ++half)
        for (std::int64_t r = here.rank * columns; r < (here.rank + 1) * columns; ++r)
          for (std::int64_t k = 0; k < hidden; ++k)
            want_gate_up.push_back(r < inner ? gate_up.at(e, half * inner + r, k) : 0.0f);
      for (std::int64_t r = 0; r < hidden; ++r)
        for (std::int64_t k = here.rank * columns; k < (here.rank + 1) * columns; ++k)
          want_down.push_back(down.at(e, r, k));
    }
    EXPECT_EQ(my_gate_up, want_gate_up) << "rank " << rank << " of tp " << tp << ", ep " << ep;
    EXPECT_EQ(my_down, want_down) << "rank " << rank << " of tp " << tp << ", ep " << ep;
  }
}

TEST(ExpertShares, PutTogetherAreTheWhole) {
  Qwen3Config c = test::small_config(true);
  for (const int experts : {5, 6, 8})
    for (const int ep : {1, 2, 3, 4, 5})
      for (const int tp : {1, 2, 3}) {
        c.num_experts = experts;
        expect_shares_of(c, tp, ep);
      }
}

TEST(ExpertShares, AreRefusedForOtherDegrees) {
  const Graph graph = build(test::small_config(true), {1, 2});
  const std::string name = "model.layers.0.mlp.experts.down_proj";
  EXPECT_NO_THROW(filled(graph, name, {0, 1, 1, 2}));
  EXPECT_THROW(filled(graph, name, {0, 1, 0, 1}), Error);
  EXPECT_THROW(filled(graph, name, {0, 1, 0, 3}), Error);
  EXPECT_THROW(filled(graph, name, {0, 1, 2, 2}), Error);
}

}  // namespace
}  // namespace cajal
