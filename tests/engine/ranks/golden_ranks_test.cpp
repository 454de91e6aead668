// Hugging Face's numbers on several ranks. A few of the goldens always; all of them, and all degrees, where CAJAL_ALL_RANKS is
// set: CAJAL_ALL_RANKS=1 build/release/tests/engine_test --gtest_filter='*GoldenRanks*'
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/generator.h"
#include "engine/golden.h"
#include "engine/ranks/rank_team.h"
#include "engine/scorer.h"

namespace cajal {
namespace {

bool all_ranks() { return std::getenv("CAJAL_ALL_RANKS") != nullptr; }

struct RanksCase {
  std::string folder;
  ParallelDegrees degrees;
};

std::vector<RanksCase> cases() {
  std::vector<RanksCase> cases;
  const auto add = [&](const std::string& folder, std::initializer_list<ParallelDegrees> degrees) {
    for (const ParallelDegrees& d : degrees) cases.push_back({folder, d});
  };
  if (all_ranks()) {
    for (const std::string& folder : golden_folders())
      add(folder, {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {1, 2}, {1, 4}, {2, 2}});
    return cases;
  }
  const std::string root = CAJAL_TEST_DATA "/goldens/";
  add(root + "d_three_layers_gqa", {{2, 1}, {3, 1}});
  add(root + "d_head_dim_20", {{4, 1}});
  add(root + "d_bf16_bias", {{2, 1}});
  add(root + "m_odd_sizes", {{3, 1}, {1, 2}, {2, 2}});
  add(root + "m_fused", {{1, 4}});
  return cases;
}

class GoldenRanks : public testing::TestWithParam<RanksCase> {
 protected:
  Golden golden{GetParam().folder};
  RankTeam team{{.degrees = GetParam().degrees, .device = "cpu", .backend = {.num_threads = 2}}};
  Model model{{.folder = GetParam().folder, .ranks = &team.leader()}, team.backend()};
};
INSTANTIATE_TEST_SUITE_P(Degrees, GoldenRanks, testing::ValuesIn(cases()), [](const auto& info) {
  return detail::join(std::filesystem::path(info.param.folder).filename().string(), "_tp", info.param.degrees.tensor,
                      "_ep", info.param.degrees.expert);
});

TEST_P(GoldenRanks, LogitsAndGreedyTokensAreTransformers) {
  const auto length = static_cast<std::int64_t>(golden.input_ids.size());
  const auto vocab_size = static_cast<std::size_t>(model.config().vocab_size);
  double largest = 0, sum = 0;
  std::size_t next = 0;
  ScoreOptions options;
  options.on_logits = [&](std::int64_t row, std::span<const float> logits) {
    if (next == golden.positions.size() || golden.positions[next] != row) return;
    for (std::size_t v = 0; v < vocab_size; ++v) {
      const double delta = std::abs(double{logits[v]} - double{golden.logits[next * vocab_size + v]});
      largest = std::max(largest, delta), sum += delta;
    }
    ++next;
  };
  score(model, golden.input_ids, length, options);
  EXPECT_EQ(next, golden.positions.size());
  if (model.dtype() != DType::f32) {  // as tests/engine/golden_test.cpp has it; near tokens may change places
    EXPECT_LE(sum / static_cast<double>(next * vocab_size), 0.05);
    return;
  }
  EXPECT_LE(largest, 2e-4);

  SequenceRequest request{.prompt = golden.input_ids};
  request.sampling.temperature = 0;
  request.max_new_tokens = static_cast<std::int64_t>(golden.greedy.size());
  Generator generator(model, nullptr, {.max_num_seqs = 1, .max_model_len = length + request.max_new_tokens});
  const SequenceResult result = std::move(generator.run(std::span(&request, 1))[0]);
  std::vector<std::int32_t> tokens;
  for (const GeneratedToken& token : result.tokens) tokens.push_back(token.chosen.token_id);
  EXPECT_EQ(tokens, golden.greedy);
}

}  // namespace
}  // namespace cajal
