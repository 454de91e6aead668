#include "engine/speculation/verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "engine/sampler.h"

namespace cajal {
namespace {

using Tokens = std::vector<std::int32_t>;

// A target that says `says` whatever was guessed, as long as that lasts.
VerifiedDraft verify(const Tokens& draft, const Tokens& says) {
  return verify_chain(draft, 10, [&](std::int64_t row, std::int64_t position) -> std::optional<std::int32_t> {
    EXPECT_EQ(position, 10 + row);
    if (row == static_cast<std::int64_t>(says.size())) return std::nullopt;
    return says[static_cast<std::size_t>(row)];
  });
}

TEST(VerifyChain, TakesTheRightGuessesAndOneTokenMore) {
  const auto all = verify({4, 5, 6}, {4, 5, 6, 7});
  EXPECT_EQ(all.num_tokens, 4);
  EXPECT_EQ(all.num_accepted, 3);
  const auto some = verify({4, 5, 6}, {4, 9, 6, 7});
  EXPECT_EQ(some.num_tokens, 2) << "what follows a wrong guess was computed for another text";
  EXPECT_EQ(some.num_accepted, 1);
  const auto none = verify({4, 5, 6}, {1, 5, 6, 7});
  EXPECT_EQ(none.num_tokens, 1);
  EXPECT_EQ(none.num_accepted, 0);
}

TEST(VerifyChain, IsPlainDecodingWithoutGuesses) {
  const auto verified = verify({}, {4});
  EXPECT_EQ(verified.num_tokens, 1);
  EXPECT_EQ(verified.num_accepted, 0);
}

TEST(VerifyChain, StopsWhereTheSequenceEndsThoughTheGuessesGoOn) {
  const auto verified = verify({4, 5, 6}, {4, 5});
  EXPECT_EQ(verified.num_tokens, 2);
  EXPECT_EQ(verified.num_accepted, 2);
  EXPECT_EQ(verify({4}, {}).num_tokens, 0);
}

// A target and a draft model over five tokens, whose distributions depend on the last token.
constexpr std::size_t kVocab = 5;
using Table = std::array<std::array<float, kVocab>, kVocab>;
constexpr Table kTarget{{{0.0f, 1.0f, -1.0f, 0.5f, 2.0f},
                         {1.5f, -2.0f, 0.3f, 0.0f, 0.2f},
                         {0.0f, 0.0f, 0.0f, 0.0f, 0.0f},
                         {-0.5f, 3.0f, 1.0f, 0.0f, 1.0f},
                         {2.0f, 1.0f, 0.0f, -1.0f, -2.0f}}};

std::array<double, kVocab> probabilities(const std::array<float, kVocab>& logits) {
  std::array<double, kVocab> p{};
  for (std::size_t i = 0; i < kVocab; ++i) p[i] = std::exp(static_cast<double>(logits[i]) - log_sum_exp(logits));
  return p;
}

std::int32_t draw(const Table& model, const Tokens& tokens, std::uint64_t seed) {
  return sample_gumbel(model[static_cast<std::size_t>(tokens.back())], seed, 0, tokens.size());
}

Tokens decode(Tokens tokens, std::size_t count, std::uint64_t seed) {
  while (count-- > 0) tokens.push_back(draw(kTarget, tokens, seed));
  return tokens;
}

// Decodes at least `count` tokens with guesses; `guess(tokens, seed)` gives three.
template <class Guess>
Tokens decode_with_guesses(Tokens tokens, std::size_t count, std::uint64_t seed, const Guess& guess) {
  const std::size_t end = tokens.size() + count;
  while (tokens.size() < end) {
    const Tokens draft = guess(tokens, seed);
    const Tokens before = tokens;
    verify_chain(draft, static_cast<std::int64_t>(before.size()), [&](std::int64_t row, std::int64_t position) {
      // A row's logits are those of the sequence and the guesses before it, whatever the target has said by then.
      Tokens seen = before;
      seen.insert(seen.end(), draft.begin(), draft.begin() + row);
      EXPECT_EQ(static_cast<std::int64_t>(seen.size()), position);
      tokens.push_back(draw(kTarget, seen, seed));
      return std::optional(tokens.back());
    });
  }
  tokens.resize(end);
  return tokens;
}

// Drafters that are bad in different ways: they do not know the model, they know another one, or they know what will come and
// tell the truth only if they like it, which no scheme that accepts or rejects by probabilities would survive.
Tokens constant_guess(const Tokens&, std::uint64_t) { return {2, 2, 2}; }

constexpr Table kOther{{{2.0f, 1.0f, 0.0f, -1.0f, -2.0f},
                        {0.0f, 1.0f, 0.0f, 2.0f, 0.0f},
                        {1.0f, 0.0f, 2.0f, 0.0f, 1.0f},
                        {0.0f, 0.0f, 0.0f, 1.0f, 1.0f},
                        {1.5f, 1.0f, 0.5f, -1.0f, -2.0f}}};
Tokens other_models_guess(const Tokens& tokens, std::uint64_t seed) {
  Tokens longer = tokens;
  for (int i = 0; i < 3; ++i) longer.push_back(draw(kOther, longer, seed));
  return {longer.end() - 3, longer.end()};
}

Tokens scheming_guess(const Tokens& tokens, std::uint64_t seed) {
  const Tokens longer = decode(tokens, 3, seed);
  Tokens draft(longer.end() - 3, longer.end());
  for (auto& token : draft)
    if (token % 2) token = (token + 1) % static_cast<std::int32_t>(kVocab);
  return draft;
}

class AnyDrafter : public testing::TestWithParam<Tokens (*)(const Tokens&, std::uint64_t)> {};

TEST_P(AnyDrafter, GivesTheTokensOfPlainDecoding) {
  for (std::uint64_t seed = 0; seed < 500; ++seed)
    ASSERT_EQ(decode_with_guesses({1, 3}, 20, seed, GetParam()), decode({1, 3}, 20, seed)) << "seed " << seed;
}

TEST_P(AnyDrafter, GivesTheTargetsDistribution) {
  // Of the first two tokens, jointly. 24 degrees of freedom: one fair experiment in a thousand exceeds 51.2. The seeds are
  // fixed, so this one comes out the same every time.
  constexpr std::size_t kSamples = 20000;
  std::array<double, kVocab * kVocab> seen{};
  for (std::uint64_t seed = 0; seed < kSamples; ++seed) {
    const Tokens tokens = decode_with_guesses({1, 3}, 2, seed, GetParam());
    ++seen[static_cast<std::size_t>(tokens[2]) * kVocab + static_cast<std::size_t>(tokens[3])];
  }
  double chi_square = 0;
  for (std::size_t a = 0; a < kVocab; ++a)
    for (std::size_t b = 0; b < kVocab; ++b) {
      const double expected = kSamples * probabilities(kTarget[3])[a] * probabilities(kTarget[a])[b];
      chi_square += std::pow(seen[a * kVocab + b] - expected, 2) / expected;
    }
  RecordProperty("chi_square", std::to_string(chi_square));
  EXPECT_LT(chi_square, 51.2);
}
INSTANTIATE_TEST_SUITE_P(Bad, AnyDrafter, testing::Values(constant_guess, other_models_guess, scheming_guess));

// Decision 0011: two models that share their random numbers agree with probability sum over i of
// 1 / sum over j of max(p_j / p_i, q_j / q_i), at least (1 - d) / (1 + d), d being half the sum of |p - q|; no scheme
// can exceed 1 - d.
TEST(SharedRandomNumbers, AgreeAsOftenAsTheFormulaSays) {
  constexpr int kSamples = 40000;
  for (std::size_t last = 0; last < kVocab; ++last) {
    const auto p = probabilities(kTarget[last]), q = probabilities(kOther[last]);
    double agreement = 0, distance = 0;
    for (std::size_t i = 0; i < kVocab; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < kVocab; ++j) sum += std::max(p[j] / p[i], q[j] / q[i]);
      agreement += 1 / sum;
      distance += std::abs(p[i] - q[i]) / 2;
    }
    int seen = 0;
    const Tokens tokens{0, static_cast<std::int32_t>(last)};
    for (std::uint64_t seed = 0; seed < kSamples; ++seed)
      seen += draw(kTarget, tokens, seed) == draw(kOther, tokens, seed);
    const double sigma = std::sqrt(agreement * (1 - agreement) / kSamples);
    EXPECT_NEAR(seen / static_cast<double>(kSamples), agreement, 4 * sigma) << "after token " << last;
    EXPECT_GE(agreement, (1 - distance) / (1 + distance));
    EXPECT_LE(agreement, 1 - distance);
  }
}

}  // namespace
}  // namespace cajal
