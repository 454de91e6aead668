#include "compiler/passes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <map>

#include "compiler/model_graphs.h"
#include "graph/random_graph.h"

namespace cajal {
namespace {

constexpr std::array<std::string_view, 3> kAll = {kAddRmsNorm, kSiluMulHalves, kQkNormRopeKvWrite};

template <class OpType>
std::vector<std::string> names_of(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes())
    if (std::holds_alternative<OpType>(node.op)) names.push_back(node.name);
  return names;
}
std::map<std::string, int> regions_of(const Graph& graph) {
  std::map<std::string, int> count;
  for (const Node& node : graph.nodes())
    if (const auto* region = std::get_if<ops::Region>(&node.op)) ++count[region->kind];
  return count;
}
const ops::Parameter& parameter(const Graph& graph, const std::string& name) {
  const auto leaf = graph.find_leaf(name);
  CAJAL_CHECK(leaf, name);
  return std::get<ops::Parameter>(graph.producer_node(*leaf).op);
}
std::vector<std::string> piece_names(const Graph& graph, const std::string& name) {
  std::vector<std::string> names;
  for (const WeightPiece& piece : parameter(graph, name).pieces) names.push_back(piece.name);
  return names;
}
Graph small_model(bool experts, bool bias, int tp = 1) {
  Qwen3Config c = test::small_config(experts);
  c.attention_bias = bias;
  return build_qwen3(c, {.bucket = {8, 2, 2, 2}, .parallel = {tp, 1}});
}
StoragePolicy tiles() {
  return {[](const TensorType&) {
            return Packed{16, 2};
          },
          [](const TensorType&) {
            return Packed{64, 2};
          },
          [](const TensorType&) {
            return Packed{2, 4};
          }};
}
Graph without_kernels(const Graph& graph) {
  return inline_regions(graph, [](std::string_view) { return false; });
}

TEST(FuseProjections, JoinsQkvAndGateUp) {
  const Graph fused = fuse_projections(small_model(false, true, 1));
  const std::string layer = "model.layers.1.";
  EXPECT_EQ(piece_names(fused, layer + "self_attn.qkv_proj.weight"),
            (std::vector<std::string>{layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight",
                                      layer + "self_attn.v_proj.weight"}));
  EXPECT_EQ(piece_names(fused, layer + "self_attn.qkv_proj.bias"),
            (std::vector<std::string>{layer + "self_attn.q_proj.bias", layer + "self_attn.k_proj.bias",
                                      layer + "self_attn.v_proj.bias"}));
  EXPECT_EQ(piece_names(fused, layer + "mlp.gate_up_proj.weight"),
            (std::vector<std::string>{layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight"}));
  EXPECT_EQ(to_string(fused.type(*fused.find_leaf(layer + "self_attn.qkv_proj.weight"))), "bf16[64,32]");
  EXPECT_EQ(to_string(fused.type(*fused.find_leaf(layer + "self_attn.qkv_proj.bias"))), "bf16[64]");
  EXPECT_EQ(to_string(fused.type(*fused.find_leaf(layer + "mlp.gate_up_proj.weight"))), "bf16[96,32]");
  EXPECT_FALSE(fused.find_leaf(layer + "self_attn.q_proj.weight"));
  EXPECT_THAT(names_of<ops::Linear>(fused),
              testing::ElementsAre("model.layers.0.self_attn.qkv_proj", "model.layers.0.self_attn.o_proj",
                                   "model.layers.0.mlp.gate_up_proj", "model.layers.0.mlp.down_proj",
                                   layer + "self_attn.qkv_proj", layer + "self_attn.o_proj", layer + "mlp.gate_up_proj",
                                   layer + "mlp.down_proj", "lm_head"));
}

TEST(FuseProjections, KeepsModulesApart) {
  const Graph fused =
      fuse_projections(build_qwen3(test::small_qwen2_moe(), {.bucket = {8, 2, 2, 2}, .parallel = {1, 1}}));
  const std::string mlp = "model.layers.0.mlp.";
  EXPECT_EQ(piece_names(fused, mlp + "gate_shared_expert_gate_proj.weight"),
            (std::vector<std::string>{mlp + "gate.weight", mlp + "shared_expert_gate.weight"}));
  EXPECT_EQ(piece_names(fused, mlp + "shared_expert.gate_up_proj.weight"),
            (std::vector<std::string>{mlp + "shared_expert.gate_proj.weight", mlp + "shared_expert.up_proj.weight"}));
  EXPECT_THAT(regions_of(fuse_regions(fused, kAll)), testing::Contains(testing::Pair(kSiluMulHalves, 2)));
}

TEST(FuseProjections, KeepsTheShardingOfEachPiece) {
  Qwen3Config c = test::small_config(false);
  const Graph fused = fuse_projections(build_qwen3(c, {.bucket = {8, 2, 2, 2}, .parallel = {4, 1}}));
  const auto& pieces = parameter(fused, "model.layers.0.self_attn.qkv_proj.weight").pieces;
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].sharding, (Sharding{0, 4}));
  EXPECT_EQ(pieces[1].sharding, (Sharding{0, 2}));  // two kv heads on four ranks
  EXPECT_EQ(to_string(fused.type(*fused.find_leaf("model.layers.0.self_attn.qkv_proj.weight"))), "bf16[24,32]");
}

TEST(FuseProjections, LeavesApartWhatDoesNotBelongTogether) {
  Graph g;
  const auto weight = [&](const std::string& name, Shape shape, Storage storage = Plain{}, std::int64_t repeat = 1) {
    return g.add_leaf(ops::Parameter{{{name, shape, {}}}, repeat, ""}, {DType::f32, shape, storage}, name);
  };
  const Value x = g.add_leaf(ops::Input{"x"}, {DType::f32, {4, 8}, Plain{}}, "x");
  const Value given = g.add_leaf(ops::Input{"given"}, {DType::f32, {6, 8}, Plain{}}, "given");
  const Value shared = weight("shared", {6, 8});
  const std::vector<Value> outputs = {
      g.add(ops::Linear{}, {x, weight("a", {6, 8})}, "a"),
      g.add(ops::Linear{}, {x, weight("b", {6, 8}), weight("bias", {6})}, "b"),  // a has no bias
      g.add(ops::Linear{2}, {x, weight("c", {6, 8})}, "c"),                      // summed otherwise
      g.add(ops::Linear{}, {x, shared}, "d"),
      g.add(ops::Linear{}, {x, shared}, "e"),                              // d's weight
      g.add(ops::Linear{}, {x, given}, "f"),                               // no parameter
      g.add(ops::Linear{}, {x, weight("g", {6, 8}, Packed{2, 2})}, "g")};  // stored already
  g.set_outputs(outputs);
  EXPECT_EQ(to_text(fuse_projections(g)), to_text([&] {
              return eliminate_dead_code(g);  // the normal form alone
            }()));
}

TEST(FuseProjections, DoesNotTakeTheNameOfAnotherLeaf) {
  Graph g;
  const auto weight = [&](const std::string& name) {
    return g.add_leaf(ops::Parameter{{{name, {6, 8}, {}}}, 1, ""}, {DType::f32, {6, 8}, Plain{}}, name);
  };
  const Value x = g.add_leaf(ops::Input{"x"}, {DType::f32, {4, 8}, Plain{}}, "x");
  const Value y = g.add(ops::Add{}, {x, x}, "y");
  std::vector<Value> outputs;
  for (const Value in : {x, y})
    for (const char* name : {"gate_proj", "up_proj"})
      outputs.push_back(g.add(ops::Linear{}, {in, weight(name + std::to_string(in.id))}, name));
  g.set_outputs(outputs);
  const Graph fused = fuse_projections(g);
  EXPECT_TRUE(fused.find_leaf("gate_up_proj.weight"));
  EXPECT_EQ(names_of<ops::Linear>(fused).size(), 3u);  // one pair fused, the other of the same names left
}

TEST(FuseRegions, FindsEveryPatternOfAModel) {
  EXPECT_THAT(regions_of(fuse_regions(fuse_projections(small_model(false, false)), kAll)),
              testing::ElementsAre(testing::Pair(kAddRmsNorm, 3), testing::Pair(kQkNormRopeKvWrite, 2),
                                   testing::Pair(kSiluMulHalves, 2)));
  EXPECT_THAT(regions_of(fuse_regions(fuse_projections(small_model(true, true)), kAll)),
              testing::ElementsAre(testing::Pair(kAddRmsNorm, 3), testing::Pair(kQkNormRopeKvWrite, 2)));
  constexpr std::array<std::string_view, 1> kOne = {kSiluMulHalves};
  EXPECT_THAT(regions_of(fuse_regions(fuse_projections(small_model(false, false)), kOne)),
              testing::ElementsAre(testing::Pair(kSiluMulHalves, 2)));
  constexpr std::array<std::string_view, 2> kWithLinear = {kSiluMulHalves, kLinearSiluMulHalves};
  EXPECT_THAT(regions_of(fuse_regions(fuse_projections(small_model(false, false)), kWithLinear)),
              testing::ElementsAre(testing::Pair(kLinearSiluMulHalves, 2)));
}

TEST(FuseRegions, LeavesAProductThatOthersReadOrThatHasABiasOutOfItsGatesRegion) {
  const auto regions = [](bool bias, bool read) {
    Graph g;
    const auto parameter = [&](const char* name, Shape shape) {
      return g.add_leaf(ops::Parameter{{{name, shape, {}}}}, {DType::f32, shape, Plain{}}, name);
    };
    std::vector<Value> inputs{g.add_leaf(ops::Input{"x"}, {DType::f32, {4, 8}, Plain{}}, "x"), parameter("w", {16, 8})};
    if (bias) inputs.push_back(parameter("b", {16}));
    const Value both = g.add(ops::Linear{}, inputs, "linear");
    const Value mul =
        g.add(ops::SiluMul{}, {g.add(ops::Slice{0, 8}, {both}, "gate"), g.add(ops::Slice{8, 16}, {both}, "up")}, "mul");
    read ? g.set_outputs({mul, both}) : g.set_outputs({mul});
    constexpr std::array<std::string_view, 2> kKinds = {kSiluMulHalves, kLinearSiluMulHalves};
    return regions_of(fuse_regions(g, kKinds));
  };
  EXPECT_THAT(regions(false, false), testing::ElementsAre(testing::Pair(kLinearSiluMulHalves, 1)));
  EXPECT_THAT(regions(true, false), testing::ElementsAre(testing::Pair(kSiluMulHalves, 1)));
  EXPECT_THAT(regions(false, true), testing::ElementsAre(testing::Pair(kSiluMulHalves, 1)));
}

TEST(FuseRegions, MakesNoRegionThatItsKernelsCouldNotRun) {
  // Sums and products of heads and of single columns look like those of rows.
  const char* text =
      "%0 = input() {name=\"x\"} : f32[4,2,16]  # x\n"
      "%1 = input() {name=\"w\"} : f32[16]  # w\n"
      "%2 = add(%0, %0) : f32[4,2,16]  # sum\n"
      "%3 = rms_norm(%2, %1) {epsilon=1} : f32[4,2,16]  # norm\n"
      "%4 = slice(%3) {end=8} : f32[4,2,8]  # gate\n"
      "%5 = slice(%3) {begin=8, end=16} : f32[4,2,8]  # up\n"
      "%6 = silu_mul(%4, %5) : f32[4,2,8]  # mul\n"
      "return %2, %6\n";
  EXPECT_EQ(to_text(fuse_regions(parse_graph(text, "heads"), kAll)), text);
}

struct QkvLayout {
  std::int64_t q = 0, k = 16, v = 24, columns = 32;
  float k_epsilon = 1e-6f;
  bool q_read_twice = false;
};

// Attention of two heads of eight over one, whose q, k and v lie in the columns that the layout says.
Graph attention_over(const QkvLayout& layout) {
  Graph g;
  const auto input = [&](const char* name, DType dtype, Shape shape) {
    return g.add_leaf(ops::Input{name}, {dtype, shape, Plain{}}, name);
  };
  const auto cache = [&](const char* name) {
    return g.add_leaf(ops::State{name}, {DType::f32, {Shape::kDynamic, 1, 64, 8}, Plain{}}, name);
  };
  const Value qkv = input("qkv", DType::f32, {4, layout.columns}), slots = input("slots", DType::i32, {4});
  const Value weight = input("weight", DType::f32, {8}), table = input("table", DType::f32, {4, 2, 4});
  const Value tables = input("tables", DType::i32, {2, 2}), k_cache = cache("k"), v_cache = cache("v");
  const auto heads = [&](std::int64_t begin, std::int64_t n) {
    return g.add(ops::Reshape{{4, n, 8}}, {g.add(ops::Slice{begin, begin + 8 * n}, {qkv}, "slice")}, "heads");
  };
  const Value q_normed = g.add(ops::RmsNorm{1e-6f}, {heads(layout.q, 2), weight}, "q_norm");
  const Value k_normed = g.add(ops::RmsNorm{layout.k_epsilon}, {heads(layout.k, 1), weight}, "k_norm");
  const Value q = g.add(ops::Rope{}, {q_normed, table}, "q"), k = g.add(ops::Rope{}, {k_normed, table}, "k");
  const Value k_written = g.add(ops::KvWrite{}, {k_cache, k, slots}, "k_write");
  const Value v_written = g.add(ops::KvWrite{}, {v_cache, heads(layout.v, 1), slots}, "v_write");
  std::vector<Value> outputs{
      g.add(ops::PagedAttention{}, {q, k_written, v_written, tables, slots, slots}, "attention")};
  if (layout.q_read_twice) outputs.push_back(q_normed);
  g.set_outputs(outputs);
  return g;
}

TEST(FuseRegions, TakesQkvOnlyInTheOrderThatItsKernelsRead) {
  const auto fused = [](const QkvLayout& layout) {
    return regions_of(fuse_regions(attention_over(layout), kAll)).contains(std::string(kQkNormRopeKvWrite));
  };
  EXPECT_TRUE(fused({}));
  EXPECT_FALSE(fused({.q = 8, .k = 0}));
  EXPECT_FALSE(fused({.k = 24, .v = 16}));
  EXPECT_FALSE(fused({.columns = 40}));
  EXPECT_FALSE(fused({.q = 8, .k = 24, .v = 32, .columns = 40}));
  EXPECT_FALSE(fused({.k_epsilon = 1e-5f}));
  EXPECT_FALSE(fused({.q_read_twice = true}));
}

TEST(FuseRegions, IsUndoneByInlining) {
  for (const auto& [name, model] : test::small_models()) {
    const Graph before = fuse_projections(model);
    const Graph after = without_kernels(fuse_regions(before, kAll));
    EXPECT_TRUE(regions_of(after).empty());
    // The same ops with the same attributes, in an order that may differ.
    const auto sorted_ops = [](const Graph& graph) {
      std::map<std::string, int> ops;
      for (const Node& node : graph.nodes()) {
        std::string types;
        for (const Value v : node.inputs) types += to_string(graph.type(v)) + ' ';
        ++ops[node.name + ' ' + op_name(node.op) + ' ' + types];
      }
      return ops;
    };
    EXPECT_EQ(sorted_ops(after), sorted_ops(before)) << name;
  }
}

TEST(InlineRegions, KeepsThoseThatHaveAKernel) {
  const Graph fused = fuse_regions(fuse_projections(small_model(false, false)), kAll);
  const Graph kept = inline_regions(fused, [](std::string_view kind) { return kind == kAddRmsNorm; });
  EXPECT_THAT(regions_of(kept), testing::ElementsAre(testing::Pair(kAddRmsNorm, 3)));
  EXPECT_EQ(to_text(inline_regions(fused, [](std::string_view) { return true; })), to_text(fused));
}

TEST(EliminateDeadCode, DropsWhatNothingNeedsAndKeepsTheInterface) {
  Graph g = small_model(false, false);
  const Graph before = eliminate_dead_code(g);
  const Value x = g.outputs()[0];
  const Value w = g.add_leaf(ops::Parameter{{{"unused", {96}, {}}}, 1, ""}, {DType::bf16, {96}, Plain{}}, "unused");
  g.add(ops::RmsNorm{1e-6f}, {x, w}, "unread");
  EXPECT_EQ(to_text(eliminate_dead_code(g)), to_text(before));

  g.set_outputs(
      {g.add(ops::Embedding{}, {*g.find_leaf("model.embed_tokens.weight"), *g.find_leaf("input_ids")}, "embed")});
  const Graph pruned = eliminate_dead_code(g);
  EXPECT_FALSE(pruned.find_leaf("lm_head.weight"));
  EXPECT_TRUE(pruned.find_leaf("logits_indices"));  // inputs are the interface
}

TEST(EliminateDeadCode, KeepsWhatLaterStepsFindInAState) {
  Graph g = small_model(false, false);
  g.set_outputs(
      {g.add(ops::Embedding{}, {*g.find_leaf("model.embed_tokens.weight"), *g.find_leaf("input_ids")}, "embed")});
  for (const Graph& graph : {eliminate_dead_code(g), eliminate_dead_code(fuse_regions(fuse_projections(g), kAll))}) {
    EXPECT_TRUE(graph.find_leaf("model.layers.1.self_attn.k_cache"));
    EXPECT_FALSE(graph.find_leaf("model.layers.1.self_attn.o_proj.weight"));  // only the output needed it
    EXPECT_TRUE(graph.find_leaf("model.layers.0.self_attn.o_proj.weight"));
  }
}

TEST(AssignStorage, StoresWeightsAndCachesAsThePolicySays) {
  const Graph g = assign_storage(fuse_projections(small_model(true, true)), tiles());
  const auto storage = [&](const std::string& name) { return g.type(*g.find_leaf(name)).storage; };
  EXPECT_EQ(storage("model.layers.0.self_attn.qkv_proj.weight"), Storage(Packed{16, 2}));
  EXPECT_EQ(storage("model.layers.0.self_attn.qkv_proj.bias"), Storage(Plain{}));
  EXPECT_EQ(storage("model.layers.0.mlp.experts.gate_up_proj"), Storage(Packed{16, 2}));
  EXPECT_EQ(storage("model.layers.0.mlp.experts.down_proj"), Storage(Packed{16, 2}));
  EXPECT_EQ(storage("model.layers.0.self_attn.k_cache"), Storage(Packed{64, 2}));
  EXPECT_EQ(storage("model.layers.0.self_attn.v_cache"), Storage(Packed{2, 4}));
  EXPECT_EQ(storage("model.embed_tokens.weight"), Storage(Plain{}));
  EXPECT_EQ(storage("model.norm.weight"), Storage(Plain{}));
}

TEST(AssignStorage, LeavesPlainWhatIsReadInOtherWaysToo) {
  Graph g;
  const auto weight = [&](const std::string& name, Shape shape) {
    return g.add_leaf(ops::Parameter{{{name, shape, {}}}, 1, ""}, {DType::f32, shape, Plain{}}, name);
  };
  const Value x = g.add_leaf(ops::Input{"x"}, {DType::f32, {4, 8}, Plain{}}, "x");
  const Value ids = g.add_leaf(ops::Input{"ids"}, {DType::i32, {4}, Plain{}}, "ids");
  const Value given = g.add_leaf(ops::Input{"given"}, {DType::f32, {6, 8}, Plain{}}, "given");
  const Value viewed = weight("viewed", {8, 6}), both = weight("both", {4, 8}), tied = weight("tied", {6, 8});
  g.set_outputs({g.add(ops::Linear{}, {x, given}, "a"),
                 g.add(ops::Linear{}, {x, g.add(ops::Reshape{{6, 8}}, {viewed}, "view")}, "b"),
                 g.add(ops::Linear{}, {g.add(ops::Add{}, {both, both}, "sum"), both}, "c"),
                 g.add(ops::Linear{}, {x, tied}, "d"), g.add(ops::Embedding{}, {tied, ids}, "e")});
  const Graph stored = assign_storage(g, tiles());
  for (const char* name : {"given", "viewed", "both"})
    EXPECT_TRUE(stored.type(*stored.find_leaf(name)).plain()) << name;
  EXPECT_FALSE(stored.type(*stored.find_leaf("tied")).plain());
}

std::vector<std::pair<std::string, Graph>> through_all_passes(const Graph& graph) {
  std::vector<std::pair<std::string, Graph>> stages{{"built", graph}};
  const auto then = [&](const char* name, Graph g) { stages.emplace_back(name, std::move(g)); };
  then("fuse_projections", fuse_projections(stages.back().second));
  then("assign_storage", assign_storage(stages.back().second, tiles()));
  then("fuse_regions", fuse_regions(stages.back().second, kAll));
  then("eliminate_dead_code", eliminate_dead_code(stages.back().second));
  then("inline_regions", without_kernels(stages.back().second));
  return stages;
}

void expect_readable(const Graph& graph, const std::string& what) {
  const std::string text = to_text(graph);
  EXPECT_EQ(to_text(parse_graph(text, what)), text) << what;
  EXPECT_NO_THROW(verify(graph)) << what;
}

TEST(EveryPass, GivesGraphsThatReadBackFromTheirText) {
  for (unsigned seed = 0; seed < 60; ++seed)
    for (const auto& [pass, graph] : through_all_passes(test::random_graph(seed))) expect_readable(graph, pass);
  for (const auto& [name, model] : test::small_models())
    for (const auto& [pass, graph] : through_all_passes(model)) expect_readable(graph, name + ", " + pass);
}

TEST(EveryPass, GivesGraphsOfTheReleasedModelsThatReadBack) {
  const auto folders = test::released_models();
  ASSERT_GE(folders.size(), 20u);
  std::size_t i = 0;
  for (const std::string& folder : folders) {
    const Qwen3Config config = load_qwen3_config(folder);
    const auto buckets = test::some_buckets();
    const Graph graph = build_qwen3(config, {.bucket = buckets[i++ % buckets.size()]});
    for (const auto& [pass, g] : through_all_passes(graph)) expect_readable(g, folder + ", " + pass);
  }
}

TEST(EveryPass, ChangesNothingTheSecondTime) {
  std::vector<Graph> graphs;
  for (unsigned seed = 0; seed < 60; ++seed) graphs.push_back(test::random_graph(seed));
  for (auto& [name, model] : test::small_models()) graphs.push_back(std::move(model));
  for (const Graph& graph : graphs) {
    const Graph projections = fuse_projections(graph), stored = assign_storage(projections, tiles());
    const Graph regions = fuse_regions(stored, kAll), alive = eliminate_dead_code(regions),
                flat = without_kernels(alive);
    EXPECT_EQ(to_text(fuse_projections(projections)), to_text(projections));
    EXPECT_EQ(to_text(assign_storage(stored, tiles())), to_text(stored));
    EXPECT_EQ(to_text(fuse_regions(regions, kAll)), to_text(regions));
    EXPECT_EQ(to_text(eliminate_dead_code(alive)), to_text(alive));
    EXPECT_EQ(to_text(without_kernels(flat)), to_text(flat));
  }
}

}  // namespace
}  // namespace cajal
