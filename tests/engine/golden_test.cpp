// The whole way from a checkpoint to tokens against Hugging Face Transformers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/generator.h"
#include "engine/scorer.h"
#include "golden.h"
#include "test_device.h"

namespace cajal {
namespace {

std::vector<std::vector<float>> all_logits(const Model& model, std::span<const std::int32_t> ids, std::int64_t chunk) {
  std::vector<std::vector<float>> rows;
  ScoreOptions options;
  options.chunk_size = chunk;
  options.on_logits = [&](std::int64_t, std::span<const float> row) { rows.emplace_back(row.begin(), row.end()); };
  score(model, ids, static_cast<std::int64_t>(ids.size()), options);
  return rows;
}

float margin_of(std::span<const float> logits) {
  std::vector<float> sorted(logits.begin(), logits.end());
  std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
  return sorted[0] - sorted[1];
}

class Goldens : public testing::TestWithParam<std::string> {
 protected:
  Golden golden{GetParam()};
  std::unique_ptr<Backend> backend = test_backend(2);
  Model model{{.folder = GetParam()}, *backend};

  std::span<const float> expected(std::size_t i) const {
    const auto v = static_cast<std::size_t>(model.config().vocab_size);
    return std::span(golden.logits).subspan(i * v, v);
  }
};

TEST_P(Goldens, LogitsAreTransformers) {
  const auto rows = all_logits(model, golden.input_ids, 512);
  double largest = 0, sum = 0;
  std::size_t count = 0, far = 0;
  for (std::size_t i = 0; i < golden.positions.size(); ++i) {
    const auto& got = rows[static_cast<std::size_t>(golden.positions[i])];
    const auto want = expected(i);
    const double got_lse = log_sum_exp(got), want_lse = log_sum_exp(want);
    for (std::size_t v = 0; v < got.size(); ++v) {
      largest = std::max(largest, std::abs(static_cast<double>(got[v]) - static_cast<double>(want[v])));
      const double delta =
          std::abs((static_cast<double>(got[v]) - got_lse) - (static_cast<double>(want[v]) - want_lse));
      sum += delta, ++count, far += delta >= 0.2;
    }
    if (model.dtype() != DType::bf16) continue;
    if (margin_of(want) > 0.25f) {
      EXPECT_EQ(argmax(got), argmax(want)) << "token " << golden.positions[i];
    }
  }
  RecordProperty("largest_delta", std::to_string(largest));
  if (model.dtype() == DType::f32) {
    EXPECT_LE(largest, 2e-4);
  } else {
    EXPECT_LE(sum / static_cast<double>(count), 0.05);
    EXPECT_LE(static_cast<double>(far) / static_cast<double>(count), 0.01);
  }
}

TEST_P(Goldens, GreedyTokensAreTransformers) {
  Generator generator(
      model, nullptr,
      {.max_num_seqs = 1, .max_model_len = static_cast<std::int64_t>(golden.input_ids.size() + golden.greedy.size())});
  SequenceRequest request;
  request.prompt = golden.input_ids;
  request.sampling.temperature = 0;
  request.max_new_tokens = static_cast<std::int64_t>(golden.greedy.size());
  const auto results = generator.run(std::span(&request, 1));
  std::vector<std::int32_t> tokens;
  for (const auto& token : results[0].tokens) tokens.push_back(token.chosen.token_id);
  ASSERT_EQ(tokens.size(), golden.greedy.size());
  // In bf16 two engines may part where the first two tokens are almost as likely; after that they read different texts.
  const auto decode_logits = read_tensor<float>(golden.expected, "greedy_logits");
  const auto v = static_cast<std::size_t>(model.config().vocab_size);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] != golden.greedy[t] && model.dtype() == DType::bf16 &&
        (decode_logits.empty() || margin_of(std::span(decode_logits).subspan(t * v, v)) <= 0.25f))
      break;
    ASSERT_EQ(tokens[t], golden.greedy[t]) << "token " << t;
  }
}

std::string case_name(const testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).filename();
}
INSTANTIATE_TEST_SUITE_P(HuggingFace, Goldens, testing::ValuesIn(golden_folders()), case_name);

}  // namespace
}  // namespace cajal
