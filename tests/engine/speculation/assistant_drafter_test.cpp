#include "engine/speculation/assistant_drafter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/generator.h"
#include "engine/golden.h"
#include "engine/test_device.h"
#include "text/support.h"

namespace cajal {
namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::int64_t kMaxModelLen = 256, kGuesses = 4;

Tokens random_ids(std::mt19937& rng, std::size_t count, std::int64_t vocab_size) {
  Tokens ids(count);
  for (auto& id : ids) id = static_cast<std::int32_t>(rng() % static_cast<std::uint64_t>(vocab_size));
  return ids;
}

SamplingParams sampling_of(std::uint32_t i) {
  SamplingParams s;
  s.temperature = i % 3 == 0 ? 0.0f : 0.9f;
  s.seed = 100 + i / 2;
  if (i % 2) s.repetition_penalty = 1.3f;
  if (i % 4 == 2) s.presence_penalty = 0.5f, s.frequency_penalty = 0.7f;
  if (i % 5 == 1) s.top_k = 20, s.top_p = 0.8f;
  return s;
}

// Sequences as an engine has them, for one drafter after another.
struct Growing {
  SequenceRequest request;
  Tokens tokens;  // so far
  Tokens future;  // what the model will say after the prompt
  DraftContext context(std::uint64_t name, std::int64_t max_tokens = kGuesses) const {
    return {.sequence = name,
            .tokens = tokens,
            .prompt_length = std::ssize(request.prompt),
            .sampling = &request.sampling,
            .sequence_index = request.sequence_index,
            .max_tokens = max_tokens};
  }
};

std::vector<Growing> some_sequences(const Model& model, std::uint32_t count, std::size_t max_prompt, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<Growing> sequences(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    SequenceRequest& r = sequences[i].request;
    r.prompt = random_ids(rng, 1 + rng() % max_prompt, model.config().vocab_size);
    r.sampling = sampling_of(i);
    r.sequence_index = i % 3;
    r.max_new_tokens = 18;
    sequences[i].tokens = r.prompt;
  }
  return sequences;
}

AssistantOptions small_options() {
  return {.num_assistant_tokens = kGuesses,
          .max_num_seqs = 4,
          .prefill_chunk_size = 16,
          .max_model_len = kMaxModelLen,
          .max_num_kv_blocks = 0};
}

AssistantDrafter drafter_of(const Model& model, const AssistantOptions& options = small_options()) {
  return {model, model.config().vocab_size, options};
}

std::vector<Draft> propose(AssistantDrafter& drafter, std::span<const DraftContext> contexts) {
  std::vector<Draft> drafts(contexts.size(), Draft{.tokens = {1, 2}, .parents = {}});
  drafter.propose(contexts, drafts);
  EXPECT_EQ(drafter.kv_cache().find_inconsistency(), "");
  return drafts;
}

Tokens guess(AssistantDrafter& drafter, const DraftContext& context) {
  return propose(drafter, std::span(&context, 1))[0].tokens;
}

class AssistantOfItself : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend = test_backend(2);
  Model model{{.folder = GetParam()}, *backend};

  void look_into_the_future(std::vector<Growing>& sequences) const {
    std::vector<SequenceRequest> requests;
    requests.reserve(sequences.size());
    for (const Growing& s : sequences) requests.push_back(s.request);
    Generator generator(model, nullptr, {.max_num_seqs = 8, .max_model_len = kMaxModelLen});
    const auto results = generator.run(requests);
    for (std::size_t i = 0; i < sequences.size(); ++i)
      for (const auto& token : results[i].tokens) sequences[i].future.push_back(token.chosen.token_id);
  }
};

TEST_P(AssistantOfItself, GuessesWhatTheModelThenSays) {
  // Six in groups of four, from one that has said nothing to those that have said almost all; after each step some of
  // the guesses are taken, and a token more.
  auto sequences = some_sequences(model, 6, 60, 1);
  look_into_the_future(sequences);
  AssistantDrafter drafter = drafter_of(model);
  std::mt19937 rng(2);
  for (int step = 0; step < 8; ++step) {
    std::vector<DraftContext> contexts;
    for (std::size_t i = 0; i < sequences.size(); ++i) contexts.push_back(sequences[i].context(i));
    const auto drafts = propose(drafter, contexts);
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      Growing& s = sequences[i];
      const std::size_t said = s.tokens.size() - s.request.prompt.size();
      const std::size_t count = std::min<std::size_t>(kGuesses, s.future.size() - said);
      const Tokens expected(s.future.begin() + static_cast<std::ptrdiff_t>(said),
                            s.future.begin() + static_cast<std::ptrdiff_t>(said + count));
      ASSERT_EQ(drafts[i].tokens.size(), static_cast<std::size_t>(kGuesses));
      ASSERT_EQ(Tokens(drafts[i].tokens.begin(), drafts[i].tokens.begin() + static_cast<std::ptrdiff_t>(count)),
                expected)
          << "sequence " << i << " after " << said << " tokens";
      const std::size_t taken = std::min(count, 1 + rng() % (kGuesses + 1));
      s.tokens.insert(s.tokens.end(), expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(taken));
    }
  }
}

std::string case_name(const testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).filename();
}
INSTANTIATE_TEST_SUITE_P(Goldens, AssistantOfItself, testing::ValuesIn(golden_folders()), case_name);

// Laws of the cache, on kinds of models that treat it differently.
class AssistantCache : public AssistantOfItself {};

TEST_P(AssistantCache, GivesWhatANewDrafterGivesThroughAnyStory) {
  // Texts that the model would not write, so that every guess is rejected; sequences that go back, begin anew under the same
  // name with another prompt or another border between prompt and answer, and end; in a pool that holds two or three of five.
  auto sequences = some_sequences(model, 5, 100, 3);
  AssistantOptions options = small_options();
  options.max_num_kv_blocks = 5;
  AssistantDrafter drafter = drafter_of(model, options);
  std::mt19937 rng(4);
  std::size_t given = 0, withheld = 0;
  for (int step = 0; step < 60; ++step) {
    std::vector<std::size_t> who;
    std::vector<DraftContext> contexts;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      Growing& s = sequences[i];
      if (rng() % 2) continue;
      const auto event = rng() % 12;
      if (event == 0) drafter.forget(i);
      if (event <= 1) s.tokens = s.request.prompt = random_ids(rng, 1 + rng() % 100, model.config().vocab_size);
      if (event == 2) s.tokens.resize(s.request.prompt.size());
      if (event == 3) s.request.prompt.resize(1 + rng() % s.request.prompt.size());
      const Tokens more = random_ids(rng, rng() % 6, model.config().vocab_size);
      s.tokens.insert(s.tokens.end(), more.begin(), more.end());
      if (s.tokens.size() > 150) s.tokens.resize(s.request.prompt.size());
      who.push_back(i);
    }
    contexts.reserve(who.size());
    for (const std::size_t i : who) contexts.push_back(sequences[i].context(i, static_cast<std::int64_t>(rng() % 7)));
    const auto drafts = propose(drafter, contexts);
    for (std::size_t c = 0; c < contexts.size(); ++c) {
      if (drafts[c].tokens.empty()) {
        withheld += contexts[c].max_tokens > 0;
        continue;
      }
      ++given;
      AssistantDrafter alone = drafter_of(model);
      ASSERT_EQ(drafts[c].tokens, guess(alone, contexts[c])) << "sequence " << who[c] << ", step " << step;
    }
  }
  EXPECT_GT(given, 3 * withheld);
  EXPECT_GT(withheld, 0u) << "the pool is too large to test anything";
}

TEST_P(AssistantCache, GuessesTheSameWhateverRunsBesideIt) {
  const auto sequences = some_sequences(model, 7, 120, 5);
  std::vector<DraftContext> contexts;
  for (std::size_t i = 0; i < sequences.size(); ++i) contexts.push_back(sequences[i].context(i, 1 + i % 5));
  AssistantDrafter together = drafter_of(model);
  const auto drafts = propose(together, contexts);
  AssistantOptions other = small_options();
  other.max_num_seqs = 1;
  other.prefill_chunk_size = 100;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    AssistantDrafter alone = drafter_of(model, other);
    EXPECT_EQ(drafts[i].tokens, guess(alone, contexts[i])) << i;
    EXPECT_EQ(std::ssize(drafts[i].tokens), std::min<std::int64_t>(kGuesses, contexts[i].max_tokens));
  }
}

TEST_P(AssistantCache, ComputesNoTokenTwiceThatItGuessedRight) {
  auto s = some_sequences(model, 1, 1, 6)[0];
  std::mt19937 rng(7);
  s.request.prompt = s.tokens = random_ids(rng, 40, model.config().vocab_size);
  AssistantDrafter drafter = drafter_of(model);
  Tokens draft = guess(drafter, s.context(1));
  EXPECT_EQ(drafter.num_computed_tokens(), 40 + kGuesses - 1) << "the last guess needs no row";

  // All right, and a token more: the last guess and that token are new.
  s.tokens.insert(s.tokens.end(), draft.begin(), draft.end());
  s.tokens.push_back(5);
  std::int64_t before = drafter.num_computed_tokens();
  draft = guess(drafter, s.context(1));
  EXPECT_EQ(drafter.num_computed_tokens() - before, 2 + kGuesses - 1);

  // All wrong: the token that was right is new.
  s.tokens.push_back((draft[0] + 1) % static_cast<std::int32_t>(model.config().vocab_size));
  before = drafter.num_computed_tokens();
  guess(drafter, s.context(1));
  EXPECT_EQ(drafter.num_computed_tokens() - before, 1 + kGuesses - 1);

  // The same again: the logits of the last token are needed once more.
  before = drafter.num_computed_tokens();
  guess(drafter, s.context(1));
  EXPECT_EQ(drafter.num_computed_tokens() - before, 1 + kGuesses - 1);
}

TEST_P(AssistantCache, SharesAPromptBetweenItsSequences) {
  auto s = some_sequences(model, 1, 1, 6)[0];
  std::mt19937 rng(8);
  s.request.prompt = s.tokens = random_ids(rng, 150, model.config().vocab_size);
  AssistantDrafter drafter = drafter_of(model);
  const Tokens first = guess(drafter, s.context(1));
  const std::int64_t before = drafter.num_computed_tokens();
  EXPECT_EQ(guess(drafter, s.context(2)), first);
  EXPECT_EQ(drafter.num_computed_tokens() - before, 150 - 2 * kKvBlockSize + kGuesses - 1);
}

TEST_P(AssistantCache, FallsSilentWhereItsContextEnds) {
  auto s = some_sequences(model, 1, 1, 6)[0];
  AssistantOptions options = small_options();
  options.max_model_len = 20;
  AssistantDrafter drafter = drafter_of(model, options);
  for (const auto& [length, expected] :
       std::vector<std::pair<std::size_t, std::size_t>>{{17, 4}, {18, 3}, {20, 1}, {21, 0}}) {
    s.tokens.resize(length, 3);
    EXPECT_EQ(guess(drafter, s.context(1)).size(), expected) << length;
  }
}

TEST_P(AssistantCache, LeavesOutWhoFindsNoRoom) {
  // One block: the first of a call has it and keeps it while it is in each call.
  auto sequences = some_sequences(model, 3, 20, 9);
  AssistantOptions options = small_options();
  options.max_num_kv_blocks = 1;
  AssistantDrafter drafter = drafter_of(model, options);
  const DraftContext first = sequences[0].context(0), second = sequences[1].context(1);
  auto drafts = propose(drafter, std::vector{first, second});
  EXPECT_EQ(drafts[0].tokens.size(), static_cast<std::size_t>(kGuesses));
  EXPECT_EQ(drafts[1].tokens.size(), 0u);
  drafts = propose(drafter, std::vector{second, first});
  EXPECT_EQ(drafts[0].tokens.size(), 0u);
  EXPECT_EQ(drafts[1].tokens.size(), static_cast<std::size_t>(kGuesses));
  EXPECT_EQ(guess(drafter, sequences[2].context(2)).size(), static_cast<std::size_t>(kGuesses)) << "takes it over";
  sequences[2].tokens.resize(kKvBlockSize, 3);
  EXPECT_EQ(guess(drafter, sequences[2].context(2)).size(), 0u) << "needs two";
  EXPECT_EQ(drafter.kv_cache().num_available_blocks(), 1) << "and keeps none that it cannot use";
  EXPECT_EQ(guess(drafter, sequences[1].context(1)).size(), static_cast<std::size_t>(kGuesses)) << "it was given back";
}

TEST_P(AssistantCache, IsEmptyAndOfUseAfterAnError) {
  const auto sequences = some_sequences(model, 3, 100, 10);
  AssistantDrafter drafter = drafter_of(model);
  const std::int64_t all = drafter.kv_cache().num_available_blocks();
  const Tokens first = guess(drafter, sequences[0].context(0));
  SamplingParams broken;
  broken.temperature = -1;
  std::vector<DraftContext> contexts{sequences[0].context(0), sequences[1].context(1), sequences[2].context(2)};
  contexts[2].sampling = &broken;
  std::vector<Draft> drafts(3);
  EXPECT_THROW(drafter.propose(contexts, drafts), Error);
  for (const Draft& draft : drafts) EXPECT_TRUE(draft.tokens.empty());
  EXPECT_EQ(drafter.kv_cache().num_available_blocks(), all);
  EXPECT_EQ(guess(drafter, sequences[0].context(0)), first);
}

std::vector<std::string> kinds_of_cache() {
  std::vector<std::string> folders;
  for (const char* name : {"d_eps", "d_bf16_tied", "d_sliding_two", "m_bf16_top2", "rope_dynamic_cross"})
    folders.push_back(std::string(CAJAL_TEST_DATA "/goldens/") + name);
  return folders;
}
INSTANTIATE_TEST_SUITE_P(Goldens, AssistantCache, testing::ValuesIn(kinds_of_cache()), case_name);

template <class Body>
std::string refusal(const Body& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
    EXPECT_NE(e.message(), "");
    return e.message();
  }
  return "none";
}

TEST(AssistantDrafter, RefusesAnotherVocabularySizeAndOptionsOutOfRange) {
  const auto backend = test_backend(1);
  const Model model({.folder = CAJAL_TEST_DATA "/goldens/d_eps"}, *backend);
  const auto make = [&](std::int64_t vocab_size, const AssistantOptions& options) {
    return refusal([&] { AssistantDrafter(model, vocab_size, options); });
  };
  EXPECT_THAT(make(161, small_options()),
              testing::EndsWith("has vocab_size 160, and the model that it guesses for has 161"));
  AssistantOptions options = small_options();
  options.num_assistant_tokens = 0;
  EXPECT_EQ(make(160, options), "num_assistant_tokens of the assistant is 0, expected 1 to 256");
  options = small_options();
  options.max_num_kv_blocks = -1;
  EXPECT_THAT(make(160, options), testing::StartsWith("max_num_kv_blocks of the assistant is -1, expected 0 to"));
}

Tokenizer small_tokenizer_of(const std::vector<std::string>& merges) {
  return Tokenizer::from_json(to_json(test::small_tokenizer(merges)), "t.json");
}

TEST(AssistantDrafter, RefusesOtherTokens) {
  const Tokenizer target = small_tokenizer_of({"a b", "c d"}), same = small_tokenizer_of({"a b", "c d"}),
                  other = small_tokenizer_of({"a b", "c e"}), shorter = small_tokenizer_of({"a b"});
  EXPECT_EQ(refusal([&] { check_same_tokens(target, same); }), "none");
  EXPECT_EQ(refusal([&] { check_same_tokens(target, other); }),
            "token 257 of the assistant is \"ce\", and that of the model that it guesses for is \"cd\"");
  EXPECT_EQ(refusal([&] { check_same_tokens(target, shorter); }),
            "token 257 of the assistant is none, and that of the model that it guesses for is \"cd\"");
  EXPECT_EQ(refusal([&] { check_same_tokens(shorter, target); }),
            "token 257 of the assistant is \"cd\", and that of the model that it guesses for is none");
}

}  // namespace
}  // namespace cajal
