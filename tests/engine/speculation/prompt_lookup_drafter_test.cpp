#include "engine/speculation/prompt_lookup_drafter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace cajal {
namespace {

using Tokens = std::vector<std::int32_t>;

// What a drafter should say, by looking everywhere.
Tokens obvious_guess(const Tokens& t, const PromptLookupOptions& options, std::int64_t wanted) {
  for (auto n = static_cast<std::size_t>(options.max_matching_ngram_size);
       n >= static_cast<std::size_t>(options.min_matching_ngram_size); --n)
    for (std::size_t end = t.size(); end-- > n;) {
      if (n > t.size() || !std::equal(t.end() - static_cast<std::ptrdiff_t>(n), t.end(),
                                      t.begin() + static_cast<std::ptrdiff_t>(end - n)))
        continue;
      Tokens longer = t;
      for (std::int64_t i = 0; i < wanted; ++i) longer.push_back(longer[end + static_cast<std::size_t>(i)]);
      return {longer.begin() + static_cast<std::ptrdiff_t>(t.size()), longer.end()};
    }
  return {};
}

Tokens guess(Drafter& drafter, std::uint64_t sequence, const Tokens& tokens, std::int64_t max_tokens = 100) {
  DraftContext context;
  context.sequence = sequence;
  context.tokens = tokens;
  context.max_tokens = max_tokens;
  Draft draft{.tokens = {77, 78}, .parents = {}};  // of the step before: must go
  drafter.propose(std::span(&context, 1), std::span(&draft, 1));
  EXPECT_TRUE(draft.parents.empty()) << "a chain needs none";
  return draft.tokens;
}

Tokens random_tokens(std::mt19937& rng, std::size_t count, unsigned alphabet) {
  Tokens tokens(count);
  for (auto& token : tokens) token = static_cast<std::int32_t>(rng() % alphabet);
  return tokens;
}

TEST(PromptLookupDrafter, GuessesWhatFollowedTheMostRecentOccurrenceOfTheLongestNgram) {
  PromptLookupDrafter drafter({.prompt_lookup_num_tokens = 3, .max_matching_ngram_size = 3});
  EXPECT_THAT(guess(drafter, 1, {1, 2, 3, 4, 5, 9, 1, 2, 3}), testing::ElementsAre(4, 5, 9));
  EXPECT_THAT(guess(drafter, 2, {1, 2, 3, 4, 0, 2, 3, 7, 8, 9, 2, 3}), testing::ElementsAre(7, 8, 9)) << "the later";
  EXPECT_THAT(guess(drafter, 3, {1, 2, 3, 4, 0, 0, 2, 3, 7, 1, 2, 3}), testing::ElementsAre(4, 0, 0)) << "the longer";
  EXPECT_THAT(guess(drafter, 4, {1, 2, 3, 4}), testing::IsEmpty());
  EXPECT_THAT(guess(drafter, 5, {5, 6, 5, 6}), testing::ElementsAre(5, 6, 5)) << "a loop goes on";
}

TEST(PromptLookupDrafter, GuessesNoMoreThanIsWanted) {
  PromptLookupDrafter drafter({.prompt_lookup_num_tokens = 4});
  EXPECT_EQ(guess(drafter, 1, {1, 1, 1}).size(), 4u);
  EXPECT_EQ(guess(drafter, 1, {1, 1, 1}, 2).size(), 2u);
  EXPECT_EQ(guess(drafter, 1, {1, 1, 1}, 0).size(), 0u);
}

struct Sizes {
  std::int64_t min, max;
  unsigned alphabet;
};
class AnyNgrams : public testing::TestWithParam<Sizes> {};

TEST_P(AnyNgrams, AreFoundAsByLookingEverywhere) {
  const auto [min, max, alphabet] = GetParam();
  const PromptLookupOptions options{
      .prompt_lookup_num_tokens = 7, .max_matching_ngram_size = max, .min_matching_ngram_size = min};
  PromptLookupDrafter drafter(options);
  std::mt19937 rng(alphabet);
  Tokens tokens = random_tokens(rng, 1 + rng() % 20, alphabet);
  std::size_t found = 0;
  while (tokens.size() < 700) {
    const Tokens got = guess(drafter, 1, tokens);
    ASSERT_EQ(got, obvious_guess(tokens, options, 7)) << "after " << tokens.size() << " tokens";
    found += !got.empty();
    for (auto more = rng() % 6; more > 0; --more)  // some steps accept nothing new: asked again with the same tokens
      tokens.push_back(rng() % 2 && !got.empty() ? got[0] : static_cast<std::int32_t>(rng() % alphabet));
  }
  EXPECT_GT(found, 50u) << "the streams repeat too little to test anything";
}
INSTANTIATE_TEST_SUITE_P(Sizes, AnyNgrams,
                         testing::Values(Sizes{1, 1, 5}, Sizes{1, 2, 3}, Sizes{1, 3, 100}, Sizes{2, 2, 9},
                                         Sizes{2, 5, 4}, Sizes{3, 8, 2}));

TEST(PromptLookupDrafter, StaysRightThroughAnyStory) {
  // Sequences side by side that grow, go back, take another way of the same length or longer, end, and begin anew under
  // the same name, in room for about two of them.
  const PromptLookupOptions options{.prompt_lookup_num_tokens = 5, .max_indexed_tokens = 400};
  PromptLookupDrafter drafter(options);
  std::mt19937 rng(11);
  std::vector<Tokens> sequences(6);
  for (int step = 0; step < 4000; ++step) {
    const auto s = rng() % sequences.size();
    Tokens& tokens = sequences[s];
    const auto event = rng() % 20;
    if (event == 0) {
      drafter.forget(s);
      tokens.clear();
    } else if (event == 1) {
      tokens.clear();  // and nobody says so
    } else if (event == 2 && !tokens.empty()) {
      tokens.resize(rng() % tokens.size());
    } else if (event == 3 && !tokens.empty()) {
      tokens[rng() % tokens.size()] ^= 1;
    }
    const Tokens more = random_tokens(rng, 1 + rng() % 8, 6);
    tokens.insert(tokens.end(), more.begin(), more.end());
    if (tokens.size() > 300) tokens.resize(150);
    ASSERT_EQ(guess(drafter, s, tokens), obvious_guess(tokens, options, 5)) << "step " << step;
    ASSERT_LE(drafter.num_indexed_tokens(), std::max<std::int64_t>(400, static_cast<std::int64_t>(tokens.size())));
  }
  for (std::uint64_t s = 0; s < sequences.size(); ++s) drafter.forget(s);
  EXPECT_EQ(drafter.num_indexed_tokens(), 0);
}

TEST(PromptLookupDrafter, KeepsOneSequenceHoweverLongItIs) {
  const PromptLookupOptions options{.max_indexed_tokens = 0};
  PromptLookupDrafter drafter(options);
  std::mt19937 rng(3);
  const Tokens tokens = random_tokens(rng, 5000, 50), other = random_tokens(rng, 10, 3);
  EXPECT_EQ(guess(drafter, 1, tokens), obvious_guess(tokens, options, 10));
  EXPECT_EQ(drafter.num_indexed_tokens(), 5000);
  EXPECT_EQ(guess(drafter, 2, other), obvious_guess(other, options, 10));
  EXPECT_EQ(drafter.num_indexed_tokens(), 10);
}

TEST(PromptLookupDrafter, GuessesTheSameForASequenceWhateverRunsBesideIt) {
  std::mt19937 rng(5);
  std::vector<Tokens> sequences(20);
  for (Tokens& tokens : sequences) tokens = random_tokens(rng, 1 + rng() % 90, 8);
  std::vector<DraftContext> contexts(sequences.size());
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    contexts[i].sequence = i;
    contexts[i].tokens = sequences[i];
    contexts[i].max_tokens = static_cast<std::int64_t>(i % 4) * 3;
  }
  std::vector<Draft> drafts(sequences.size());
  PromptLookupDrafter together({.max_indexed_tokens = 200});
  together.propose(contexts, drafts);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    PromptLookupDrafter alone({});
    EXPECT_EQ(drafts[i].tokens, guess(alone, 99, sequences[i], contexts[i].max_tokens)) << i;
  }
}

void expect_refusal(const PromptLookupOptions& options, const std::string& message) {
  try {
    PromptLookupDrafter drafter(options);
    FAIL() << "accepted; expected: " << message;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
    EXPECT_EQ(e.message(), message);
  }
}

TEST(PromptLookupDrafter, RefusesOptionsOutOfRange) {
  expect_refusal({.prompt_lookup_num_tokens = 0}, "prompt_lookup_num_tokens is 0, expected 1 to 256");
  expect_refusal({.max_matching_ngram_size = 33}, "max_matching_ngram_size is 33, expected 1 to 32");
  expect_refusal({.max_matching_ngram_size = 2, .min_matching_ngram_size = 3},
                 "min_matching_ngram_size is 3, expected 1 to 2");
}

}  // namespace
}  // namespace cajal
