#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "checkpoint/checkpoint.h"
#include "checkpoint/tied_embeddings.h"
#include "checkpoint/weight_layout.h"
#include "compiler/model_graphs.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> golden_folders() {
  std::vector<std::string> folders;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(CAJAL_TEST_DATA) / "goldens"))
    if (entry.is_directory() && fs::exists(entry.path() / "config.json") &&
        (fs::exists(entry.path() / "model.safetensors") || fs::exists(entry.path() / "model.safetensors.index.json")))
      folders.push_back(entry.path().string());
  std::sort(folders.begin(), folders.end());
  return folders;
}

Shape shape_of(const CheckpointTensor& tensor) {
  Shape shape;
  for (const std::int64_t d : tensor.tensor->shape) shape.push_back(d);
  return shape;
}

const ops::Parameter& parameter_of(const Node& node) { return std::get<ops::Parameter>(node.op); }
std::vector<Node> parameters(const Graph& graph) {
  std::vector<Node> nodes;
  for (const Node& node : graph.nodes())
    if (std::holds_alternative<ops::Parameter>(node.op)) nodes.push_back(node);
  return nodes;
}

// Of one folder: every parameter is there in the shape that the graph says, and nothing of the model is left over.
void expect_parameters_of(const std::string& folder) {
  SCOPED_TRACE(folder);
  const Qwen3Config config = load_qwen3_config(folder);
  const Checkpoint checkpoint(folder);
  const EmbeddingSources sources = resolve_tied_embeddings(checkpoint, config.tie_word_embeddings);
  const Graph graph = build_qwen3(
      config,
      {.bucket = Bucket{}, .dtype = DType::f32, .embedding_tensor = sources.embedding, .lm_head_tensor = sources.head});
  std::set<const SafetensorsTensor*> used;
  for (const Node& node : parameters(graph)) {
    const ops::Parameter& parameter = parameter_of(node);
    if (checkpoint.find(name_of_repeat(parameter.pieces[0].name, 0))) {
      for (std::int64_t i = 0; i < parameter.repeat; ++i)
        for (const WeightPiece& piece : parameter.pieces) {
          const CheckpointTensor tensor = checkpoint.require(name_of_repeat(piece.name, i));
          EXPECT_EQ(shape_of(tensor), piece.shape) << piece.name;
          used.insert(tensor.tensor);
        }
    } else {
      const CheckpointTensor tensor = checkpoint.require(parameter.stacked_name);
      EXPECT_EQ(shape_of(tensor), graph.type(node.results[0]).shape) << parameter.stacked_name;
      used.insert(tensor.tensor);
    }
  }
  // A table that the other one stands for, buffers and such are left; a layer's weights are not.
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("model") && entry.path().extension() == ".safetensors")
      files.insert(entry.path().string());
  if (folder.ends_with("d_extra_tensors")) return;
  for (const std::string& file : files) {
    const SafetensorsFile opened(file);
    for (const SafetensorsTensor& tensor : opened.tensors()) {
      if (tensor.name == "lm_head.weight" || tensor.name.ends_with("embed_tokens.weight")) continue;
      const auto found = checkpoint.find(tensor.name);
      ASSERT_TRUE(found) << tensor.name;
      EXPECT_TRUE(used.contains(found->tensor)) << tensor.name << " is read by no parameter";
    }
  }
}

TEST(Qwen3Graph, DeclaresTheTensorsOfEveryGoldenCheckpoint) {
  const auto folders = golden_folders();
  ASSERT_GE(folders.size(), 50u);
  for (const std::string& folder : folders) expect_parameters_of(folder);
}

TEST(Qwen3Graph, DeclaresTheSameParametersInEveryBucket) {
  const auto declared = [](const Graph& graph) {
    std::string text;
    for (const Node& node : parameters(graph)) text += node.name + to_string(graph.type(node.results[0])) + '\n';
    return text;
  };
  for (const bool experts : {false, true}) {
    const Qwen3Config config = test::small_config(experts);
    const std::string expected = declared(build_qwen3(config, {.bucket = Bucket{}}));
    for (const Bucket& bucket : test::some_buckets())
      EXPECT_EQ(declared(build_qwen3(config, {.bucket = bucket})), expected);
  }
}

TEST(Qwen3Graph, HasTheOutputsThatItIsBuiltFor) {
  const Qwen3Config config = test::small_config(false);
  const auto built = [&](const Qwen3Outputs& outputs) {
    Graph graph = build_qwen3(config, {.bucket = {8, 2, 2, 3}, .outputs = outputs});
    verify(graph);
    return graph;
  };
  const Graph both = built({.logits = true, .last_hidden_state = true});
  ASSERT_EQ(both.outputs().size(), 2u);
  EXPECT_EQ(both.type(both.outputs()[0]).shape, (Shape{3, config.vocab_size}));
  EXPECT_EQ(both.type(both.outputs()[1]).shape, (Shape{3, config.hidden_size}));
  EXPECT_EQ(both.producer_node(both.outputs()[1]).name, "model.norm");
  const Graph hidden = built({.logits = false, .last_hidden_state = true});
  ASSERT_EQ(hidden.outputs().size(), 1u);
  EXPECT_EQ(hidden.type(hidden.outputs()[0]).shape, (Shape{3, config.hidden_size}));
  EXPECT_TRUE(both.find_leaf("lm_head.weight"));
  EXPECT_FALSE(hidden.find_leaf("lm_head.weight"));
}

// Rows that a layer's o_proj computes.
std::int64_t rows_of_o_proj(const Graph& graph, int layer) {
  const std::string name = detail::join("model.layers.", layer, ".self_attn.o_proj");
  for (const Node& node : graph.nodes())
    if (node.name == name && std::holds_alternative<ops::Linear>(node.op)) return graph.type(node.results[0]).shape[0];
  return -1;
}

TEST(Qwen3Graph, ComputesInTheLastLayerOnlyTheRowsWhoseLogitsAreWantedOnceItHasAttended) {
  for (const bool experts : {false, true}) {
    const Qwen3Config config = test::small_config(experts);
    const int last = config.num_hidden_layers - 1;
    ASSERT_GT(last, 0);
    const auto rows_of_last = [&](const Qwen3GraphOptions& options) {
      const Graph graph = build_qwen3(config, options);
      verify(graph);
      for (int layer = 0; layer < last; ++layer) EXPECT_EQ(rows_of_o_proj(graph, layer), options.bucket.num_tokens);
      return rows_of_o_proj(graph, last);
    };
    EXPECT_EQ(rows_of_last({.bucket = {64, 4, 2, 4}}), 4);
    EXPECT_EQ(rows_of_last({.bucket = {64, 64, 2, 64}}), 64);
    EXPECT_EQ(rows_of_last({.bucket = {16, 4, 2, 4}}), 16);  // few rows take the time of one
    if (!experts) continue;
    EXPECT_EQ(rows_of_last({.bucket = {64, 4, 2, 4}, .outputs = {.chosen_experts = true}}), 64);
    EXPECT_EQ(rows_of_last({.bucket = {64, 4, 2, 4}, .capacity_factor = 1.0}), 64);
  }
}

// The shape that the ranks' shares of a parameter add up to, by the loader's own reckoning of which rows a rank reads.
void expect_shares_rejoin(const Graph& graph, const Node& node, int tp) {
  const ops::Parameter& parameter = parameter_of(node);
  const TensorType& type = graph.type(node.results[0]);
  for (std::size_t p = 0; p < parameter.pieces.size(); ++p) {
    const WeightPiece& piece = parameter.pieces[p];
    const std::int64_t rows = piece.shape[0], columns = piece.shape.rank() == 2 ? piece.shape[1] : 1;
    std::vector<int> readers(static_cast<std::size_t>(rows * columns));
    for (int rank = 0; rank < tp; ++rank) {
      const WeightLayout layout = weight_layout({parameter, type, {rank, tp}});
      for (const WeightSegment& s : layout.segments) {
        if (s.piece != p) continue;
        for (std::int64_t r = 0; r < s.rows; ++r)
          for (std::int64_t c = 0; c < s.columns; ++c)
            ++readers[static_cast<std::size_t>((s.source_row + r) * columns + s.source_column + c)];
      }
    }
    const std::string what = detail::join(piece.name, " on ", tp, " ranks");
    EXPECT_EQ(std::count(readers.begin(), readers.end(), 0), 0) << what;
    if (!piece.sharding.units.empty()) continue;
    // Every element is on as many ranks as every other, and on one of each group that shares the pieces.
    const int expected = piece.sharding.replicated() ? tp : tp / piece.sharding.parts;
    EXPECT_EQ(std::count(readers.begin(), readers.end(), expected), rows * columns) << what;
  }
}

TEST(Sharding, SharesEveryWeightOutSoThatTheRanksHaveTheWhole) {
  for (const bool experts : {false, true})
    for (const int kv_heads : {1, 2, 8})
      for (const int tp : {1, 2, 4, 8, 3, 5}) {
        Qwen3Config config = test::small_config(experts);
        config.num_attention_heads = 8;
        config.num_key_value_heads = kv_heads;
        const Graph graph = build_qwen3(config, {.bucket = {4, 2, 2, 2}, .parallel = {tp, 1}});
        verify(graph);
        for (const Node& node : parameters(graph)) expect_shares_rejoin(graph, node, tp);
        // Where there are fewer kv heads than ranks, neighbours hold the same one.
        const Value cache = *graph.find_leaf("model.layers.0.self_attn.k_cache");
        EXPECT_EQ(graph.type(cache).shape[1], (kv_heads + tp - 1) / tp);
      }
}

TEST(Sharding, OfReleasedModelsSharesEveryWeightOut) {
  for (const std::string& folder : test::released_models()) {
    const Qwen3Config config = load_qwen3_config(folder);
    for (const int tp : {1, 2, 4, 8}) {
      Qwen3GraphOptions options{.bucket = Bucket{}, .parallel = {tp, 1}};
      if (config.tie_word_embeddings) options.lm_head_tensor = options.embedding_tensor;
      const Graph graph = build_qwen3(config, options);
      for (const Node& node : parameters(graph)) {
        const ops::Parameter& parameter = parameter_of(node);
        std::int64_t stored = 0;
        for (const WeightPiece& piece : parameter.pieces) {
          Shape share = piece.shape;
          if (const Sharding& s = piece.sharding; !s.replicated()) share[s.dim] = s.share(share[s.dim]);
          stored += share.elements() * parameter.repeat;
        }
        EXPECT_EQ(graph.type(node.results[0]).shape.elements(), stored) << node.name;
        EXPECT_NO_THROW(weight_layout({parameter, graph.type(node.results[0]), {tp - 1, tp}})) << node.name;
      }
    }
  }
}

// Row-parallel sums are cut into the same eight parts on every degree, and the sums inside of a rank into whole ones.
TEST(Sharding, CutsRowParallelSumsAlikeOnEveryDegree) {
  Qwen3Config config = test::small_config(true);
  config.num_attention_heads = 8;
  config.moe_intermediate_size = 48;
  config.sparse_layer = {true, false};
  for (const int tp : {1, 2, 4, 8}) {
    const Graph graph = build_qwen3(config, {.bucket = {4, 2, 2, 2}, .parallel = {tp, 1}});
    int found = 0;
    for (const Node& node : graph.nodes()) {
      const bool row_parallel = node.name.ends_with("o_proj") || node.name.ends_with("down_proj");
      if (const auto* linear = std::get_if<ops::Linear>(&node.op)) {
        EXPECT_EQ(linear->sum_parts * (row_parallel ? tp : 1), row_parallel ? 8 : 1) << node.name;
        found += row_parallel;
      }
      const auto* experts = std::get_if<ops::MoeExperts>(&node.op);
      const auto* outputs = std::get_if<ops::ExpertOutputs>(&node.op);
      if (experts || outputs) {
        EXPECT_EQ((experts ? experts->sum_parts : outputs->sum_parts) * tp, 8);
        ++found;
      }
    }
    EXPECT_EQ(found, 4);
  }
  EXPECT_EQ(row_parallel_sum_parts(24, 1), 1);  // no eight even parts
  EXPECT_EQ(row_parallel_sum_parts(16, 3), 1);
  EXPECT_EQ(row_parallel_sum_parts(3, 16), 1);
  EXPECT_EQ(row_parallel_sum_parts(12288, 1), 8);
  EXPECT_EQ(row_parallel_sum_parts(6144, 2), 4);
}

TEST(Sharding, TakesWhatDegreesDoNotDivide) {
  Qwen3Config c = test::small_config(false);
  c.intermediate_size = 50;
  c.vocab_size = 97;
  c.attention_bias = true;
  for (const bool tied : {false, true})
    for (const int tp : {2, 3, 5, 7, 16}) {
      Qwen3GraphOptions options{.bucket = {4, 2, 2, 2}, .parallel = {tp, 1}};
      if (tied) options.lm_head_tensor = options.embedding_tensor;
      const Graph graph = build_qwen3(c, options);
      verify(graph);
      for (const Node& node : parameters(graph)) expect_shares_rejoin(graph, node, tp);
      EXPECT_EQ(to_string(graph.type(graph.outputs()[0])), "bf16[2,97]");
      EXPECT_EQ(to_text(parse_graph(to_text(graph), "the graph")), to_text(graph));
    }
}

// A rank keeps about 1/tp of a model that it shares with others: norms, and copies of kv heads, are all that is more.
TEST(Sharding, LeavesARankItsPartOfReleasedModels) {
  for (const std::string& folder : test::released_models())
    for (const int tp : {2, 4, 8}) {
      const Qwen3Config config = load_qwen3_config(folder);
      const auto bytes = [&](int degree) {
        Qwen3GraphOptions options{.bucket = Bucket{}, .parallel = {degree, 1}};
        if (config.tie_word_embeddings) options.lm_head_tensor = options.embedding_tensor;
        const Graph graph = build_qwen3(config, options);
        double sum = 0;
        for (const Node& node : parameters(graph)) sum += static_cast<double>(graph.type(node.results[0]).bytes());
        return sum;
      };
      EXPECT_LT(bytes(tp) * tp, bytes(1) * 1.02) << folder << " on " << tp;
    }
}

TEST(Sharding, RefusesWithTheNumbers) {
  const auto why = [](const Qwen3Config& config, Parallelism parallel) {
    try {
      build_qwen3(config, {.bucket = Bucket{}, .parallel = parallel});
      return std::string();
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  Qwen3Config c = test::small_config(false);
  EXPECT_EQ(why(c, {1, 1}), "");
  EXPECT_THAT(why(c, {0, 1}), testing::HasSubstr("tensor_parallel_size is 0"));
  EXPECT_THAT(why(c, {1, 0}), testing::HasSubstr("expert_parallel_size is 0"));
  c.num_key_value_heads = 3;
  EXPECT_THAT(why(c, {2, 1}),
              testing::HasSubstr("num_attention_heads 4 are not shared evenly by num_key_value_heads 3"));
}

TEST(Sharding, RefusesHeadsThatCutGroupsAndSaysWhatFits) {
  Qwen3Config c = test::small_config(false);
  c.num_attention_heads = 8;
  c.head_dim = 16;
  const auto why = [&](int tp, const ColumnGroups& groups) {
    try {
      build_qwen3(c, {.bucket = Bucket{}, .parallel = {tp, 1}, .groups = groups});
      return std::string();
    } catch (const Error& e) {
      return e.message() + " — " + e.remedy();
    }
  };
  EXPECT_EQ(why(4, {.attention = 32, .mlp = 32}), "");
  EXPECT_EQ(why(8, {.mlp = 32}), "");
  EXPECT_THAT(
      why(8, {.attention = 32}),
      testing::AllOf(testing::HasSubstr("tensor_parallel_size 8 with quantisation by groups of 32: of 8 heads of 16"),
                     testing::HasSubstr("up to 16 these: 1, 2, 3, 4, 5, 6, 7;")));
}

TEST(Qwen3Graph, SharesOneParameterWhenTied) {
  const Qwen3Config c = test::small_config(false);
  Qwen3GraphOptions options{.bucket = {4, 2, 2, 2}};
  options.lm_head_tensor = options.embedding_tensor;
  const Graph tied = build_qwen3(c, options);
  EXPECT_FALSE(tied.find_leaf("lm_head.weight"));
  EXPECT_EQ(tied.producer_node(tied.outputs()[0]).inputs[1], *tied.find_leaf("model.embed_tokens.weight"));
  options.parallel = {2, 1};  // the table is cut once, for both
  EXPECT_EQ(to_string(build_qwen3(c, options).type(build_qwen3(c, options).outputs()[0])), "bf16[2,96]");
}

TEST(Qwen3Graph, StacksASingleExpertToo) {
  Qwen3Config c = test::small_config(true);
  c.num_experts = c.num_experts_per_tok = 1;
  const Graph graph = build_qwen3(c, {.bucket = Bucket{}});
  const Value down = *graph.find_leaf("model.layers.0.mlp.experts.down_proj");
  EXPECT_EQ(to_string(graph.type(down)), "bf16[1,32,16]");
  for (const Node& node : parameters(graph))
    EXPECT_NO_THROW(weight_layout({parameter_of(node), graph.type(node.results[0]), {}})) << node.name;
}

TEST(Qwen3Graph, CountsTheBytesOfItsCaches) {
  for (const int tp : {1, 2, 4}) {
    const Qwen3Config c = test::small_config(true);
    const Graph graph = build_qwen3(c, {.bucket = Bucket{}, .parallel = {tp, 1}});
    std::size_t bytes = 0;
    for (const Node& node : graph.nodes()) {
      if (!std::holds_alternative<ops::State>(node.op)) continue;
      TensorType type = graph.type(node.results[0]);
      type.shape[0] = 1;
      bytes += type.bytes();
    }
    EXPECT_EQ(static_cast<std::int64_t>(bytes), kKvBlockSize * kv_bytes_per_token(c, DType::bf16, {tp, 1}));
  }
}

}  // namespace
}  // namespace cajal
