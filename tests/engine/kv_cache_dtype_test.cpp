// Models whose keys and values are kept in 8 bits: the laws of others hold for them, and they stay near what they were.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "engine/export/export_model.h"
#include "engine/generator.h"
#include "engine/inspect.h"
#include "engine/model.h"
#include "engine/scorer.h"
#include "shapes.h"

namespace cajal {
namespace {

ModelOptions dummy(const char* shape, const char* overrides) {
  ModelOptions options{.folder = shape_folder(shape), .load_format = LoadFormat::dummy};
  options.config_overrides = parse_json(overrides, "overrides");
  options.kv_cache_dtype = KvCacheDType::int8;
  return options;
}

constexpr const char* kDense = R"({"num_hidden_layers": 2, "vocab_size": 2000})";
constexpr const char* kF32 = R"({"num_hidden_layers": 1, "vocab_size": 2000, "torch_dtype": "float32"})";
constexpr const char* kMoe = R"({"num_hidden_layers": 1, "num_experts": 16, "vocab_size": 2000})";
constexpr std::int64_t kTokens = 150;

std::vector<std::int32_t> ids_of(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> ids(count);
  for (auto& id : ids) id = static_cast<std::int32_t>(random() % 2000);
  return ids;
}

std::vector<float> logits_of(const Model& model, std::int64_t chunk) {
  std::vector<float> rows;
  ScoreOptions options;
  options.chunk_size = chunk;
  options.on_logits = [&](std::int64_t, std::span<const float> row) {
    rows.insert(rows.end(), row.begin(), row.end());
  };
  score(model, ids_of(kTokens, 1), kTokens, options);
  return rows;
}

std::vector<std::vector<double>> logprobs_of(const Model& model, std::span<const SequenceRequest> requests) {
  Generator generator(model, nullptr, {.max_num_seqs = 8, .prefill_chunk_size = 24, .max_model_len = 128});
  std::vector<std::vector<double>> all;
  for (const SequenceResult& result : generator.run(requests)) {
    all.emplace_back();
    for (const auto& token : result.tokens) all.back().push_back(token.chosen.logprob);
  }
  return all;
}

class KvCacheInt8 : public testing::TestWithParam<ModelOptions> {
 protected:
  std::unique_ptr<Backend> one_ = make_backend("cpu", {1}), two_ = make_backend("cpu", {2});
};
INSTANTIATE_TEST_SUITE_P(Models, KvCacheInt8,
                         testing::Values(dummy("Qwen3-0.6B", kDense), dummy("Qwen3-0.6B", kF32),
                                         dummy("Qwen3-30B-A3B", kMoe)),
                         [](const auto& test) { return "Model" + std::to_string(test.index); });

TEST_P(KvCacheInt8, ChunksAndThreadsChangeNoBit) {
  const Model model(GetParam(), *two_), alone(GetParam(), *one_);
  const auto whole = logits_of(model, kTokens);
  for (const std::int64_t chunk : {1, 7, 64}) EXPECT_EQ(logits_of(model, chunk), whole) << "chunks of " << chunk;
  EXPECT_EQ(logits_of(alone, kTokens), whole) << "one thread";
}

TEST_P(KvCacheInt8, NeighboursChangeNoBit) {
  const Model model(GetParam(), *two_);
  std::vector<SequenceRequest> requests(6);
  for (std::uint32_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = ids_of(5 + 11 * i, i);
    requests[i].sequence_index = i;
    requests[i].max_new_tokens = 4;
  }
  const auto together = logprobs_of(model, requests);
  for (std::size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(logprobs_of(model, std::span(&requests[i], 1))[0], together[i]) << "request " << i;
}

TEST_P(KvCacheInt8, StaysNearTheModelInAboutHalfOfItsCache) {
  ModelOptions plain = GetParam();
  plain.kv_cache_dtype = KvCacheDType::automatic;
  const Model model(GetParam(), *two_), exact(plain, *two_);
  const auto got = logits_of(model, kTokens), want = logits_of(exact, kTokens);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error += std::pow(static_cast<double>(got[i] - want[i]), 2);
    size += std::pow(static_cast<double>(want[i]), 2);
  }
  EXPECT_GT(error, 0);
  EXPECT_LT(std::sqrt(error / size), 0.05);  // routers may choose others
  const auto bytes = [](const Model& m) { return kv_bytes_per_token(m.config(), m.dtype(), {}, m.kv_cache_dtype()); };
  EXPECT_EQ(bytes(model) * static_cast<std::int64_t>(size_of(exact.dtype())) * exact.config().head_dim,
            bytes(exact) * (exact.config().head_dim + 4));
}

// The reference of all kernels, in its own order of bytes. AMX has another order for products in bf16, so it is left out.
TEST_P(KvCacheInt8, EveryInstructionSetGivesTheSameBits) {
  ModelOptions small = GetParam();
  small.config_overrides.set("num_hidden_layers", 1);
  BackendOptions options{.num_threads = 2};
  options.target = two_->target() == "cpu-amx" ? "cpu-avx512_bf16" : two_->target();
  const auto best = make_backend("cpu", options);
  const auto expected = logits_of(Model(small, *best), kTokens);
  options.target = "cpu-avx2";
  std::unique_ptr<Backend> avx2;
  try {
    avx2 = make_backend("cpu", options);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_EQ(logits_of(Model(small, *avx2), kTokens), expected);
}

TEST(KvCacheDType, InspectCountsTheBytesThatTheModelTakes) {
  const auto backend = make_backend("cpu", {1});
  const ModelOptions model = dummy("Qwen3-0.6B", kDense);
  InspectOptions options{.folder = model.folder};
  options.config_overrides = model.config_overrides;
  options.kv_cache_dtype = KvCacheDType::int8;
  options.limits.max_model_len = 256;
  const Inspection i = inspect(options, *backend);
  EXPECT_EQ(i.kv_bytes_per_token, kv_bytes_per_token(i.config, i.dtype, {}, KvCacheDType::int8));
  EXPECT_EQ(i.kv_bytes_per_token, 2 * 2 * 8 * (128 + 4));
}

std::string refusal(const std::function<void()>& what) {
  try {
    what();
  } catch (const Error& error) {
    return error.what();
  }
  return "(accepted)";
}

TEST(KvCacheDType, IsRefusedWhereThereAreNoKernelsAndByExports) {
  EXPECT_NE(refusal([] { check_kv_cache_dtype(KvCacheDType::int8, "sm_90"); }).find("int8 on sm_90"),
            std::string::npos);
  EXPECT_EQ(refusal([] { check_kv_cache_dtype(KvCacheDType::automatic, "sm_90"); }), "(accepted)");
  ExportOptions options;
  options.model = dummy("Qwen3-0.6B", kDense);
  EXPECT_NE(refusal([&] { export_model(options); }).find("int8 is asked for"), std::string::npos);
}

}  // namespace
}  // namespace cajal
