#include "compiler/quantize_weights.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/error.h"
#include "compiler/model_graphs.h"
#include "compiler/passes.h"

namespace cajal {
namespace {

Graph model(bool experts, bool tied, std::string_view kind, std::string_view overrides = {}) {
  Qwen3GraphOptions options{.bucket = {8, 2, 2, 2}};
  if (tied) options.lm_head_tensor = options.embedding_tensor;
  const Graph graph = build_qwen3(test::small_config(experts), options);
  return quantize_weights(graph, quantization_recipe(kind, 32, overrides));
}

int bits_of(const Graph& graph, const std::string& name) {
  const auto leaf = graph.find_leaf(name);
  CAJAL_CHECK(leaf, name);
  const Quantized* q = graph.type(*leaf).quantized();
  return q ? q->bits : 0;
}

TEST(QuantizeWeights, KeepsEmbeddingsAndHeadInEightBitsOfFour) {
  const Graph graph = model(false, false, "int4");
  EXPECT_EQ(bits_of(graph, "model.embed_tokens.weight"), 8);
  EXPECT_EQ(bits_of(graph, "lm_head.weight"), 8);
  for (const char* name : {"self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"})
    EXPECT_EQ(bits_of(graph, std::string("model.layers.1.") + name + ".weight"), 4) << name;
}

TEST(QuantizeWeights, LeavesNormsAndRoutersAsTheyAre) {
  const Graph graph = model(true, true, "int4");
  EXPECT_EQ(bits_of(graph, "model.layers.0.mlp.gate.weight"), 0);
  EXPECT_EQ(bits_of(graph, "model.layers.0.input_layernorm.weight"), 0);
  EXPECT_EQ(bits_of(graph, "model.layers.0.mlp.experts.gate_up_proj"), 4);
  EXPECT_EQ(bits_of(graph, "model.layers.0.mlp.experts.down_proj"), 4);
}

TEST(QuantizeWeights, TakesASharedExpertForAnMlpAndLeavesItsGate) {
  const Graph graph = quantize_weights(build_qwen3(test::small_qwen2_moe(), {.bucket = Bucket{}, .parallel = {1, 2}}),
                                       quantization_recipe("int4", 32));
  EXPECT_EQ(bits_of(graph, "model.layers.0.mlp.shared_expert_gate.weight"), 0);
  EXPECT_EQ(bits_of(graph, "model.layers.0.mlp.shared_expert.down_proj.weight"), 4);
  EXPECT_EQ(bits_of(graph, "model.layers.0.mlp.experts.down_proj"), 4) << "of a rank";
}

TEST(QuantizeWeights, OverridesAreByFamily) {
  const Graph graph = model(true, false, "int8", "lm_head=int4,attention=none,experts=int4");
  EXPECT_EQ(bits_of(graph, "model.embed_tokens.weight"), 8);
  EXPECT_EQ(bits_of(graph, "lm_head.weight"), 4);
  EXPECT_EQ(bits_of(graph, "model.layers.0.self_attn.q_proj.weight"), 0);
  EXPECT_EQ(bits_of(graph, "model.layers.0.mlp.experts.down_proj"), 4);
}

TEST(QuantizeWeights, AWeightOfTwoFamiliesHasTheMorePreciseOfBoth) {
  EXPECT_EQ(bits_of(model(false, true, "int4", "lm_head=int4"), "model.embed_tokens.weight"), 8);
  EXPECT_EQ(bits_of(model(false, true, "int4", "lm_head=int4,embed_tokens=int4"), "model.embed_tokens.weight"), 4);
  EXPECT_EQ(bits_of(model(false, true, "int4", "embed_tokens=none"), "model.embed_tokens.weight"), 0);
}

TEST(QuantizeWeights, ProjectionsStillJoinWhereTheirStorageIsTheSame) {
  const Graph graph = fuse_projections(model(false, true, "int4"));
  EXPECT_EQ(bits_of(graph, "model.layers.0.self_attn.qkv_proj.weight"), 4);
  EXPECT_EQ(bits_of(graph, "model.layers.0.mlp.gate_up_proj.weight"), 4);
}

TEST(QuantizeWeights, TheTextOfAGraphKeepsStorage) {
  for (const auto& [kind, storage] : {std::pair{"int4", "{bits 4, group 32, scales i8}"}, {"lossless", "{lossless}"}}) {
    const Graph graph = model(true, true, kind);
    const std::string text = to_text(graph);
    EXPECT_NE(text.find(storage), std::string::npos);
    EXPECT_EQ(to_text(parse_graph(text, "text")), text);
  }
}

TEST(QuantizationRecipe, SaysItsKindGroupsAndOverrides) {
  EXPECT_EQ(to_string(quantization_recipe("none")), "none");
  EXPECT_EQ(to_string(quantization_recipe("int4")), "int4");
  EXPECT_EQ(to_string(quantization_recipe("lossless", 32, "lm_head=int8")), "lossless, lm_head int8");
  EXPECT_EQ(to_string(quantization_recipe("int8", 128)), "int8 by 128");
  EXPECT_EQ(to_string(quantization_recipe("int4", 32, "lm_head=int4,attention=none")),
            "int4, lm_head int4, attention none");
}

TEST(QuantizationRecipe, RefusesUnknownWordsByName) {
  const auto message = [](std::string_view kind, int group, std::string_view overrides) -> std::string {
    try {
      quantization_recipe(kind, group, overrides);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("int5", 32, "").find("'int5'"), std::string::npos);
  EXPECT_NE(message("int4", 33, "").find("33"), std::string::npos);
  EXPECT_NE(message("int4", 32, "router=int4").find("'router'"), std::string::npos);
  EXPECT_NE(message("int4", 32, "mlp").find("'mlp'"), std::string::npos);
  EXPECT_NE(message("int4", 32, "mlp=int2").find("'int2'"), std::string::npos);
}

}  // namespace
}  // namespace cajal
