// Models whose weights are quantised: the laws of others hold for them, and they stay near what they were.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "engine/model.h"
#include "engine/scorer.h"
#include "shapes.h"

namespace cajal {
namespace {

ModelOptions dummy(const char* shape, const char* overrides, std::string_view kind, int group_size = 32) {
  ModelOptions options{.folder = shape_folder(shape), .load_format = LoadFormat::dummy};
  options.config_overrides = parse_json(overrides, "overrides");
  options.quantization = quantization_recipe(kind, group_size);
  return options;
}

constexpr const char* kDense = R"({"num_hidden_layers": 2, "vocab_size": 2000})";
constexpr const char* kUntied = R"({"num_hidden_layers": 1, "vocab_size": 2000, "tie_word_embeddings": false})";
constexpr const char* kF32 = R"({"num_hidden_layers": 1, "vocab_size": 2000, "torch_dtype": "float32"})";
constexpr const char* kMoe = R"({"num_hidden_layers": 1, "num_experts": 16, "vocab_size": 2000})";

std::vector<float> logits_of(const Model& model, std::int64_t chunk) {
  std::mt19937 random(1);
  std::vector<std::int32_t> ids(70);
  for (auto& id : ids) id = static_cast<std::int32_t>(random() % 2000);
  std::vector<float> rows;
  ScoreOptions options;
  options.chunk_size = chunk;
  options.on_logits = [&](std::int64_t, std::span<const float> row) {
    rows.insert(rows.end(), row.begin(), row.end());
  };
  score(model, ids, 70, options);
  return rows;
}

class Quantization : public testing::TestWithParam<ModelOptions> {
 protected:
  std::unique_ptr<Backend> one_ = make_backend("cpu", {1}), two_ = make_backend("cpu", {2});
};
INSTANTIATE_TEST_SUITE_P(Models, Quantization,
                         testing::Values(dummy("Qwen3-0.6B", kDense, "int8"), dummy("Qwen3-0.6B", kDense, "int4", 128),
                                         dummy("Qwen3-0.6B", kUntied, "int4"), dummy("Qwen3-0.6B", kF32, "int4"),
                                         dummy("Qwen3-30B-A3B", kMoe, "int8", 128),
                                         dummy("Qwen3-30B-A3B", kMoe, "int4")),
                         [](const auto& test) { return "Model" + std::to_string(test.index); });

TEST_P(Quantization, ChunksAndThreadsChangeNoBit) {
  const Model model(GetParam(), *two_), alone(GetParam(), *one_);
  const auto whole = logits_of(model, 70);
  for (const std::int64_t chunk : {1, 7, 64}) EXPECT_EQ(logits_of(model, chunk), whole) << "chunks of " << chunk;
  EXPECT_EQ(logits_of(alone, 70), whole) << "one thread";
}

TEST_P(Quantization, StaysNearTheModelAndTakesItsBits) {
  ModelOptions plain = GetParam();
  plain.quantization = {};
  const Model model(GetParam(), *two_), exact(plain, *two_);
  const auto got = logits_of(model, 70), want = logits_of(exact, 70);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error += std::pow(static_cast<double>(got[i] - want[i]), 2);
    size += std::pow(static_cast<double>(want[i]), 2);
  }
  const bool four_bits = GetParam().quantization.bits_of(WeightFamily::mlp) == 4;
  EXPECT_GT(error, 0);
  EXPECT_LT(std::sqrt(error / size), four_bits ? 0.3 : 0.05);
  const double ratio = static_cast<double>(model.weight_bytes()) / static_cast<double>(exact.weight_bytes());
  const double bits = exact.dtype() == DType::f32 ? 32 : 16;
  EXPECT_LT(ratio, (four_bits ? 5.5 : 8.6) / bits);
}

class LosslessWeights : public testing::Test {
 protected:
  void SetUp() override {
    if (two_->target() != "cpu-avx512_bf16" && two_->target() != "cpu-amx") GTEST_SKIP() << "no AVX512-BF16 here";
  }
  std::unique_ptr<Backend> two_ = make_backend("cpu", {2});
};

TEST_F(LosslessWeights, ChangeNoBitAndTakeThreeQuartersOfTheMemory) {
  for (const ModelOptions& lossless :
       {dummy("Qwen3-0.6B", kDense, "lossless"), dummy("Qwen3-0.6B", kUntied, "lossless"),
        dummy("Qwen3-30B-A3B", kMoe, "lossless")}) {
    ModelOptions plain = lossless;
    plain.quantization = {};
    const Model model(lossless, *two_), exact(plain, *two_);
    for (const std::int64_t chunk : {70, 1, 9}) ASSERT_EQ(logits_of(model, chunk), logits_of(exact, chunk)) << chunk;
    EXPECT_LT(static_cast<double>(model.weight_bytes()), 0.78 * static_cast<double>(exact.weight_bytes()));
  }
}

TEST_F(LosslessWeights, OfTrainedModelsChangeNoBit) {
  for (const char* name : {"demo-model", "demo-model-moe"}) {
    ModelOptions options{.folder = std::string(CAJAL_SOURCE_DIR) + "/share/" + name};
    const Model exact(options, *two_);
    options.quantization = quantization_recipe("lossless");
    EXPECT_EQ(logits_of(Model(options, *two_), 70), logits_of(exact, 70)) << name;
  }
}

TEST(LosslessWeightsElsewhere, AreRefusedWhereNothingReadsThem) {
  const auto refusal = [](const ModelOptions& options) -> std::string {
    try {
      const auto backend = make_backend("cpu", {1});
      Model(options, *backend);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(refusal(dummy("Qwen3-0.6B", kF32, "lossless")).find("expected bf16"), std::string::npos);
  setenv("CAJAL_CPU_ISA", "avx2", 1);
  EXPECT_NE(refusal(dummy("Qwen3-0.6B", kDense, "lossless")).find("only cpu-avx512_bf16"), std::string::npos);
  unsetenv("CAJAL_CPU_ISA");
}

}  // namespace
}  // namespace cajal
