// The same laws as same_bits_test.cpp at the shape of Qwen3-0.6B and of a Qwen3-MoE layer, where other kernels and tiles
// run than in tiny models. Few layers: they are all alike.
#include <gtest/gtest.h>

#include "engine/generator.h"
#include "engine/scorer.h"

namespace cajal {
namespace {

std::vector<std::int32_t> ids(std::size_t count, std::uint32_t seed) {
  std::vector<std::int32_t> result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = static_cast<std::int32_t>((i * 7919 + seed * 104729) % 2000);
  return result;
}

ModelOptions dummy(const char* shape, const char* overrides) {
  ModelOptions options;
  options.folder = std::string(CAJAL_SOURCE_DIR "/bench/shapes/") + shape;
  options.load_format = LoadFormat::dummy;
  options.config_overrides = parse_json(overrides, "overrides");
  return options;
}

class RealShapeSlow : public testing::TestWithParam<ModelOptions> {
 protected:
  std::unique_ptr<Backend> one = make_backend("cpu", {1}), two = make_backend("cpu", {2});

  static std::vector<std::vector<float>> last_logits(const Model& model, std::span<const std::int32_t> prompt,
                                                     std::int64_t chunk) {
    std::vector<std::vector<float>> rows;
    ScoreOptions options;
    options.chunk_size = chunk;
    options.on_logits = [&](std::int64_t row, std::span<const float> logits) {
      if (row % 23 == 0 || row + 1 == static_cast<std::int64_t>(prompt.size()))
        rows.emplace_back(logits.begin(), logits.end());
    };
    score(model, prompt, static_cast<std::int64_t>(prompt.size()), options);
    return rows;
  }
};

TEST_P(RealShapeSlow, ChunksAndThreadsChangeNoBit) {
  const Model model(GetParam(), *two), alone(GetParam(), *one);
  const auto prompt = ids(150, 1);
  const auto whole = last_logits(model, prompt, 150);
  for (const std::int64_t chunk : {1, 7, 64})
    EXPECT_EQ(last_logits(model, prompt, chunk), whole) << "chunks of " << chunk;
  EXPECT_EQ(last_logits(alone, prompt, 150), whole) << "one thread";
}

TEST_P(RealShapeSlow, BatchesChangeNoBitAndGenerateSaysWhatScoreSays) {
  const Model model(GetParam(), *two);
  std::vector<SequenceRequest> requests(64);
  for (std::uint32_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = ids(1 + i * 5 % 90, i);
    requests[i].sampling = {.temperature = i % 2 ? 1.0f : 0.0f, .seed = 3};
    requests[i].sequence_index = i;
    requests[i].max_new_tokens = 4;
    requests[i].num_logprobs = 2;
  }
  const auto run = [&](std::span<const SequenceRequest> some, std::int64_t max_num_seqs) {
    Generator generator(model, nullptr, {.max_num_seqs = max_num_seqs, .max_model_len = 128});
    return generator.run(some);
  };
  const auto together = run(requests, 64);
  for (const std::size_t i : {0u, 9u, 33u, 63u}) {
    const auto solo = run(std::span(&requests[i], 1), 1)[0];
    auto text = requests[i].prompt;
    for (const auto& token : solo.tokens) text.push_back(token.chosen.token_id);
    const Score scored = score(model, text, 512, {.num_top_logprobs = 2, .on_logits = {}});
    for (std::size_t t = 0; t < solo.tokens.size(); ++t) {
      EXPECT_EQ(solo.tokens[t].chosen, together[i].tokens[t].chosen) << "request " << i << ", token " << t;
      EXPECT_EQ(solo.tokens[t].chosen.logprob, scored.logprobs[requests[i].prompt.size() - 1 + t])
          << "request " << i << ", token " << t;
      EXPECT_EQ(solo.tokens[t].top, scored.top_logprobs[requests[i].prompt.size() - 1 + t])
          << "request " << i << ", token " << t;
    }
  }
}

std::string shape_name(const testing::TestParamInfo<ModelOptions>& test) {
  static constexpr const char* kNames[] = {"Dense", "DenseF32", "Moe"};
  return kNames[test.index];
}
std::vector<ModelOptions> shapes() {
  return {
      dummy("Qwen3-0.6B", R"({"num_hidden_layers": 3})"),
      dummy("Qwen3-0.6B",
            R"({"num_hidden_layers": 2, "torch_dtype": "float32", "vocab_size": 2000, "tie_word_embeddings": false})"),
      dummy("Qwen3-30B-A3B", R"({"num_hidden_layers": 1, "num_experts": 32, "vocab_size": 20000})")};
}
INSTANTIATE_TEST_SUITE_P(Shapes, RealShapeSlow, testing::ValuesIn(shapes()), shape_name);

}  // namespace
}  // namespace cajal
