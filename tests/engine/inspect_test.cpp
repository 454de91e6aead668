#include "engine/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "shapes.h"

namespace cajal {
namespace {

struct Expected {
  std::int64_t total = 0, active = 0;
};

// From config.json by hand, without any graph.
Expected parameters_by_formula(const std::string& name) {
  const std::string file = shape_folder(name) + "/config.json";
  const Json json = parse_json(read_file(file), file);
  const auto get = [&](const char* key) { return json.find(key)->as_int(); };
  const std::int64_t h = get("hidden_size"), layers = get("num_hidden_layers"), table = get("vocab_size") * h;
  const std::int64_t q = get("num_attention_heads") * get("head_dim"),
                     kv = get("num_key_value_heads") * get("head_dim");
  const std::int64_t attention = h * q + 2 * h * kv + q * h + 2 * get("head_dim") + 2 * h;
  std::int64_t mlp = 3 * h * get("intermediate_size"), active_mlp = mlp;
  if (json.find("num_experts")) {
    const std::int64_t expert = 3 * h * get("moe_intermediate_size"), router = h * get("num_experts");
    mlp = router + get("num_experts") * expert;
    active_mlp = router + get("num_experts_per_tok") * expert;
  }
  const std::int64_t tables = (json.find("tie_word_embeddings")->as_bool() ? 1 : 2) * table + h;
  return {layers * (attention + mlp) + tables, layers * (attention + active_mlp) + tables};
}

TEST(Inspect, CountsTheParametersOfEveryReleasedModel) {
  for (const std::string& name : shape_names()) {
    const ParameterCount count = count_parameters(shape_graph(load_qwen3_config(shape_folder(name))));
    const Expected expected = parameters_by_formula(name);
    EXPECT_EQ(count.total, expected.total) << name;
    EXPECT_EQ(count.active, expected.active) << name;
  }
}

TEST(Inspect, CountsWhatModelCardsSay) {
  const auto count = [](const char* name) {
    return count_parameters(shape_graph(load_qwen3_config(shape_folder(name))));
  };
  EXPECT_EQ(count("Qwen3-0.6B").total, 596049920);
  EXPECT_EQ(count("Qwen3-0.6B").active, 596049920);
  EXPECT_EQ(count("Qwen3-0.6B").total - count("Qwen3-0.6B").embedding, 440467456);  // "0.44B without the embedding"
  EXPECT_EQ(count("Qwen3-8B").total, 8190735360);
  EXPECT_EQ(count("Qwen3-30B-A3B").total, 30532122624);
  EXPECT_NEAR(static_cast<double>(count("Qwen3-30B-A3B").active) / 1e9, 3.3, 0.06);
  EXPECT_NEAR(static_cast<double>(count("Qwen3-235B-A22B").total) / 1e9, 235, 0.2);
  EXPECT_NEAR(static_cast<double>(count("Qwen3-235B-A22B").active) / 1e9, 22, 0.3);
  EXPECT_NEAR(static_cast<double>(count("Qwen3-Coder-480B-A35B-Instruct").total) / 1e9, 480, 0.5);
  EXPECT_NEAR(static_cast<double>(count("Qwen3-Coder-480B-A35B-Instruct").active) / 1e9, 35, 0.5);
}

class InspectShape : public testing::TestWithParam<const char*> {};

TEST_P(InspectShape, ReportsWhatTheBackendCompiles) {
  const auto backend = make_backend("cpu", {2});
  InspectOptions options{.folder = shape_folder(GetParam())};
  options.limits.max_num_seqs = 4;
  options.graph_text = GraphKind::token_generation;
  options.ceilings = Ceilings{.read_bytes_per_s = 1e10, .f32_flops_per_s = 1e11};
  options.memory_bytes = std::uint64_t{1} << 40;
  const Inspection i = inspect(options, *backend);

  const Graph graph = shape_graph(i.config);
  EXPECT_GE(i.weight_bytes, static_cast<std::uint64_t>(2 * i.parameters.total));
  EXPECT_LE(i.weight_bytes, static_cast<std::uint64_t>(2 * i.parameters.total) * 101 / 100);  // tiles may need padding
  EXPECT_EQ(i.kv_bytes_per_token, kv_bytes_per_token(i.config, i.dtype));
  EXPECT_EQ(to_text(parse_graph(i.graph_after, "text")), i.graph_after);
  ASSERT_EQ(i.graphs.size(), 4u);
  for (const GraphReport& r : i.graphs) {
    const auto executable = backend->compile(backend->prepare(shape_graph(i.config, r.bucket, i.dtype)));
    EXPECT_EQ(r.arena_bytes, executable->plan().arena_bytes) << to_string(r.kind);
    EXPECT_EQ(r.overlap, "") << to_string(r.kind);
    EXPECT_GT(r.values_bytes, r.arena_bytes) << to_string(r.kind);
    EXPECT_LE(r.largest_values.front().bytes, r.arena_bytes) << to_string(r.kind);
    EXPECT_EQ(r.step.num_tokens(), r.bucket.num_tokens) << to_string(r.kind);
    EXPECT_EQ(r.step.num_logits, r.bucket.num_logits) << to_string(r.kind);
    EXPECT_EQ(*r.floor_seconds, std::max(r.cost.bytes() / 1e10, r.cost.flops() / 1e11)) << to_string(r.kind);
    EXPECT_FALSE(r.kernels.empty()) << to_string(r.kind);
  }
  for (std::size_t f = 1; f < i.fits.size(); ++f) EXPECT_LE(i.fits[f].max_model_len, i.fits[f - 1].max_model_len);
}

INSTANTIATE_TEST_SUITE_P(Shapes, InspectShape, testing::Values("Qwen3-0.6B", "Qwen3-Coder-480B-A35B-Instruct"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
                           return name;
                         });

TEST(Inspect, AllReleasedModelsHavePlansWithoutOverlapSlow) {
  const auto backend = make_backend("cpu", {2});
  for (const std::string& name : shape_names()) {
    const Inspection i = inspect({.folder = shape_folder(name)}, *backend);
    for (const GraphReport& r : i.graphs) EXPECT_EQ(r.overlap, "") << name << ", " << to_string(r.kind);
  }
}

TEST(FitMaxModelLen, IsTheLongestThatFits) {
  const std::int64_t kv = 1000;
  for (const std::int64_t seqs : {1, 3, 64})
    for (const std::uint64_t free : {1u << 20, 1u << 24, 1u << 28}) {
      const MemoryNeed need{10000, kv, 20000, seqs, free};
      const auto taken = [&](std::int64_t length) {
        return 30000 + static_cast<std::uint64_t>((length / kKvBlockSize * seqs + 1) * kKvBlockSize * kv);
      };
      if (taken(kKvBlockSize) > free - free / 16) {
        EXPECT_THROW(fit_max_model_len(1 << 30, need), Error) << seqs << ", " << free;
        continue;
      }
      const std::int64_t length = fit_max_model_len(1 << 30, need);
      EXPECT_EQ(length % kKvBlockSize, 0);
      EXPECT_LE(taken(length), free - free / 16) << seqs << ", " << free;
      EXPECT_GT(taken(length + kKvBlockSize), free - free / 16) << seqs << ", " << free;
      EXPECT_EQ(fit_max_model_len(length, need), length);
      EXPECT_EQ(fit_max_model_len(40, need), 40);
    }
}

TEST(FitMaxModelLen, RefusesWithTheNumbers) {
  try {
    fit_max_model_len(4096, {.weight_bytes = 5000000,
                             .kv_bytes_per_token = 1000,
                             .arena_bytes = 700,
                             .num_seqs = 2,
                             .free_bytes = 4000000});
    FAIL() << "expected an error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::out_of_memory);
    EXPECT_THAT(e.message(),
                testing::AllOf(testing::HasSubstr("5000000 bytes of weights"), testing::HasSubstr("700 of activations"),
                               testing::HasSubstr("192000 of cache for 2 sequences"), testing::HasSubstr("5192700"),
                               testing::HasSubstr("4000000 free")));
  }
}

TEST(FitMaxModelLen, OfALoadedModelIsAtMostWhatItsConfigurationAllows) {
  const auto backend = make_backend("cpu", {1});
  ModelOptions options{.folder = shape_folder("Qwen3-0.6B"), .load_format = LoadFormat::dummy};
  options.config_overrides =
      parse_json(R"({"num_hidden_layers": 1, "vocab_size": 512, "max_position_embeddings": 300, "layer_types": null})",
                 "overrides");
  const Model model(options, *backend);
  EXPECT_EQ(fit_max_model_len(model, 2, 64), 300);
  EXPECT_THROW(fit_max_model_len(model, std::int64_t{1} << 30, 64), Error);
}

}  // namespace
}  // namespace cajal
