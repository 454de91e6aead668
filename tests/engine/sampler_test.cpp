#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/error.h"
#include "engine/counter_rng.h"

namespace cajal {
namespace {

constexpr float kRemoved = -std::numeric_limits<float>::infinity();

std::vector<float> random_logits(std::size_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(n);
  for (auto& l : logits) l = normal(rng);
  return logits;
}

std::vector<float> processed(std::vector<float> logits, const SamplingParams& params,
                             std::vector<std::int32_t> prompt = {}, std::vector<std::int32_t> output = {}) {
  LogitsProcessor processor(params, prompt);
  for (const auto token : output) processor.accept(token);
  processor.apply(logits);
  return logits;
}

std::size_t kept(const std::vector<float>& logits) {
  return static_cast<std::size_t>(std::count_if(logits.begin(), logits.end(), [](float l) { return l > kRemoved; }));
}

TEST(Philox, GivesThePublishedNumbers) {
  // Known answers of the authors' Random123 library.
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(LogitsProcessor, KeepsTiesAtTheKthValue) {
  EXPECT_EQ(processed({1, 3, 2, 2, 0}, {.top_k = 2}), (std::vector<float>{kRemoved, 3, 2, 2, kRemoved}));
}

TEST(LogitsProcessor, TopPKeepsTheTokenThatCrossesTheThreshold) {
  const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  EXPECT_EQ(kept(processed(logits, {.top_p = 0.49f})), 1u);
  EXPECT_EQ(kept(processed(logits, {.top_p = 0.6f})), 2u);
  EXPECT_EQ(kept(processed(logits, {.top_p = 0.9f})), 3u);
  EXPECT_EQ(kept(processed(logits, {.top_p = 1.0f})), 4u);
  EXPECT_EQ(kept(processed(logits, {.top_p = 1e-9f})), 1u);
}

TEST(LogitsProcessor, TopPIsWhatSortingAscendingGives) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    const auto logits = random_logits(97, seed);
    const float p = 0.05f + 0.0047f * static_cast<float>(seed);
    std::vector<std::size_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] < logits[b]; });
    const double lse = log_sum_exp(logits);
    double sum = 0;
    std::size_t removed = 0;
    for (const auto i : order) {
      sum += std::exp(static_cast<double>(logits[i]) - lse);
      if (sum <= 1 - static_cast<double>(p)) ++removed;
    }
    EXPECT_EQ(kept(processed(logits, {.top_p = p})), std::max<std::size_t>(1, logits.size() - removed)) << seed;
  }
}

TEST(LogitsProcessor, MinPIsRelativeToTheLargest) {
  EXPECT_EQ(kept(processed({0, std::log(0.5f), std::log(0.09f)}, {.min_p = 0.1f})), 2u);
}

TEST(LogitsProcessor, AppliesTopKBeforeTopP) {
  // After top-k the two that are left share the probability: 0.55 and 0.45; p = 0.5 keeps one, and p = 0.6 both.
  const std::vector<float> logits{std::log(0.22f), std::log(0.18f), std::log(0.17f), std::log(0.16f),
                                  std::log(0.27f - 0.0f)};
  EXPECT_EQ(kept(processed(logits, {.top_k = 2, .top_p = 0.5f})), 1u);
  EXPECT_EQ(kept(processed(logits, {.top_k = 2, .top_p = 0.6f})), 2u);
}

TEST(LogitsProcessor, PenalisesRepetitionOncePerToken) {
  EXPECT_EQ(processed({2, -2, 1, 1}, {.repetition_penalty = 2}, {0, 0}, {1, 1}), (std::vector<float>{1, -4, 1, 1}));
}

TEST(LogitsProcessor, CountsOnlyTheOutputForFrequencyAndPresence) {
  EXPECT_EQ(processed({2, 2, 2}, {.presence_penalty = 0.5f, .frequency_penalty = 0.25f}, {0}, {1, 1}),
            (std::vector<float>{2, 1, 2}));
}

TEST(LogitsProcessor, GreedyAppliesPenaltiesAndNothingElse) {
  EXPECT_EQ(processed({2, 1, 0}, {.temperature = 0, .top_k = 1, .top_p = 0.1f, .repetition_penalty = 2}, {0}),
            (std::vector<float>{1, 1, 0}));
}

TEST(LogitsProcessor, IgnoresTokensOutsideTheRow) {
  EXPECT_EQ(processed({1, 2}, {.repetition_penalty = 2}, {7, -1}), (std::vector<float>{1, 2}));
}

TEST(SampleGumbel, DrawsFromTheSoftmax) {
  const std::vector<float> logits{std::log(0.5f), std::log(0.25f), std::log(0.2f), std::log(0.05f), kRemoved};
  std::vector<double> counts(logits.size());
  constexpr int kDraws = 200000;
  for (int i = 0; i < kDraws; ++i)
    ++counts[static_cast<std::size_t>(sample_gumbel(logits, 42, 0, static_cast<std::uint64_t>(i)))];
  double chi_squared = 0;
  for (std::size_t t = 0; t < 4; ++t) {
    const double expected = kDraws * std::exp(static_cast<double>(logits[t]));
    chi_squared += (counts[t] - expected) * (counts[t] - expected) / expected;
  }
  EXPECT_EQ(counts[4], 0);
  EXPECT_LT(chi_squared, 21.1);  // 3 degrees of freedom, 1 in 10,000
}

TEST(SampleGumbel, SkippingHopelessTokensChangesNothing) {
  for (unsigned seed = 0; seed < 500; ++seed) {
    auto logits = random_logits(300, seed);
    CounterRng rng(seed, 3, 9);
    std::size_t best = 0;
    double best_score = -1e300;
    for (std::size_t i = 0; i < logits.size(); ++i)
      if (const double s = static_cast<double>(logits[i]) + rng.gumbel(static_cast<std::uint32_t>(i)); s > best_score)
        best = i, best_score = s;
    EXPECT_EQ(sample_gumbel(logits, seed, 3, 9), static_cast<std::int32_t>(best));
  }
}

TEST(SampleGumbel, SeedSequenceAndPositionEachMatter) {
  const std::vector<float> logits(1000, 0.0f);
  const auto draw = [&](std::uint64_t seed, std::uint32_t sequence, std::uint64_t position) {
    return sample_gumbel(logits, seed, sequence, position);
  };
  EXPECT_EQ(draw(1, 2, 3), draw(1, 2, 3));
  EXPECT_NE(draw(1, 2, 3), draw(2, 2, 3));
  EXPECT_NE(draw(1, 2, 3), draw(1, 3, 3));
  EXPECT_NE(draw(1, 2, 3), draw(1, 2, 4));
  EXPECT_NE(draw(1ull << 40, 2, 3), draw(0, 2, 3));
}

TEST(LogSumExp, IsStableAndSaysWhatIsNotFinite) {
  EXPECT_DOUBLE_EQ(log_sum_exp(std::vector<float>{1000, 1000}), 1000 + std::log(2.0));
  EXPECT_FALSE(std::isfinite(log_sum_exp(std::vector<float>{1, std::numeric_limits<float>::infinity()})));
  EXPECT_FALSE(std::isfinite(log_sum_exp(std::vector<float>{1, std::numeric_limits<float>::quiet_NaN(), 2})));
  EXPECT_FALSE(std::isfinite(log_sum_exp(std::vector<float>{std::numeric_limits<float>::quiet_NaN(), 2})));
}

TEST(AllFinite, FindsWhatIsNot) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(all_finite(std::vector<float>{0, -0.0f, 1e38f, -1e38f, 1e-45f}));
  for (const float bad : {kInf, -kInf, std::numeric_limits<float>::quiet_NaN()})
    EXPECT_FALSE(all_finite(std::vector<float>{1, bad, 2}));
}

TEST(TopLogprobs, AreSortedAndBreakTiesByTheLowerId) {
  const auto top = top_logprobs(std::vector<float>{1, 3, 3, 2}, 0, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].token_id, 1);
  EXPECT_EQ(top[1].token_id, 2);
  EXPECT_EQ(top[2].token_id, 3);
  EXPECT_EQ(top_logprobs(std::vector<float>{1, 2}, 0, 9).size(), 2u);
}

TEST(SamplingParams, RefusesWhatMakesNoSense) {
  for (const SamplingParams& bad :
       {SamplingParams{.temperature = -1}, SamplingParams{.temperature = NAN}, SamplingParams{.top_k = -2},
        SamplingParams{.top_p = -0.1f}, SamplingParams{.top_p = 1.5f}, SamplingParams{.min_p = 2},
        SamplingParams{.repetition_penalty = 0}, SamplingParams{.presence_penalty = 3},
        SamplingParams{.frequency_penalty = -3}})
    EXPECT_THROW(check_sampling_params(bad), Error);
}

// Their loops go by lanes with a rest, and may miss no place and no order.
TEST(Sampler, ArgmaxAndAllFiniteAreWhatTheStandardLibrarySays) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  std::mt19937 rng(1);
  for (std::size_t size = 1; size < 70; ++size) {
    for (int kind = 0; kind < 40; ++kind) {
      std::vector<float> logits(size);
      for (float& logit : logits) logit = static_cast<float>(static_cast<int>(rng() % 9) - 4) * (kind % 2 ? 1.f : -0.f);
      const float special[] = {kInfinity, -kInfinity, kNan, 7.f};
      for (int i = 0; i < kind % 5; ++i) logits[rng() % size] = special[rng() % 4];
      if (kind == 39) std::fill(logits.begin(), logits.end(), -kInfinity);
      EXPECT_EQ(argmax(logits), std::max_element(logits.begin(), logits.end()) - logits.begin());
      EXPECT_EQ(all_finite(logits),
                std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
    }
    for (std::size_t at = 0; at < size; ++at) {
      std::vector<float> logits(size, -1.0f);
      logits[at] = kNan;
      EXPECT_FALSE(all_finite(logits));
      logits[at] = 2.0f;
      EXPECT_TRUE(all_finite(logits));
      EXPECT_EQ(argmax(logits), static_cast<std::int32_t>(at));
    }
  }
}

}  // namespace
}  // namespace cajal
