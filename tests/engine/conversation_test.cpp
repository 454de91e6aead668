// What a conversation keeps from turn to turn changes no bit of an answer.
#include "engine/conversation.h"

#include <gtest/gtest.h>

#include <random>

#include "engine/test_device.h"
#include "golden.h"

namespace cajal {
namespace {

constexpr std::int64_t kMaxModelLen = 256;

std::vector<std::int32_t> random_ids(std::size_t count, std::int64_t vocab_size, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<std::int32_t> ids(count);
  for (auto& id : ids) id = static_cast<std::int32_t>(rng() % static_cast<std::uint64_t>(vocab_size));
  return ids;
}

SequenceRequest request_for(std::vector<std::int32_t> prompt, std::int64_t max_new_tokens) {
  SequenceRequest r;
  r.prompt = std::move(prompt);
  r.sampling.temperature = r.prompt.size() % 2 ? 0.8f : 0.0f;
  r.sampling.seed = 7;
  r.max_new_tokens = max_new_tokens;
  r.num_logprobs = 3;
  return r;
}

void expect_equal(const SequenceResult& a, const SequenceResult& b, const std::string& what) {
  EXPECT_EQ(a.finish_reason, b.finish_reason) << what;
  ASSERT_EQ(a.tokens.size(), b.tokens.size()) << what;
  for (std::size_t t = 0; t < a.tokens.size(); ++t) {
    EXPECT_EQ(a.tokens[t].chosen, b.tokens[t].chosen) << what << ", token " << t;
    EXPECT_EQ(a.tokens[t].top, b.tokens[t].top) << what << ", token " << t;
  }
}

class ConversationOf : public testing::TestWithParam<std::string> {
 protected:
  SequenceResult fresh(const SequenceRequest& request) {
    Generator generator(model, nullptr, {.max_num_seqs = 1, .max_model_len = kMaxModelLen});
    return generator.run(std::span(&request, 1))[0];
  }
  std::vector<std::int32_t> some(std::size_t count, unsigned seed) {
    return random_ids(count, model.config().vocab_size, seed);
  }
  bool reuses() const {
    return rotary_table(model.config().rope, model.config().head_dim, model.config().max_position_embeddings)
               .original_length == 0;
  }

  std::unique_ptr<Backend> backend = test_backend(2);
  Model model{{.folder = GetParam()}, *backend};
  Conversation conversation{model, nullptr, {.max_model_len = kMaxModelLen, .prefill_chunk_size = 16}};
};

TEST_P(ConversationOf, TurnsAreAsFreshRuns) {
  std::vector<std::int32_t> ids = some(21, 1);
  for (unsigned turn = 0; turn < 4; ++turn) {
    const SequenceRequest request = request_for(ids, 5);
    const SequenceResult result = conversation.generate(request);
    expect_equal(result, fresh(request), detail::join("turn ", turn));
    EXPECT_EQ(conversation.num_reused() > 0, turn > 0 && reuses());
    for (const auto& token : result.tokens) ids.push_back(token.chosen.token_id);
    const auto more = some(turn == 2 ? 40 : 3, 10 + turn);
    ids.insert(ids.end(), more.begin(), more.end());
  }
}

TEST_P(ConversationOf, AChangedPastIsAsFreshRuns) {
  const auto ids = some(70, 2);
  for (const std::size_t changed : {69u, 40u, 0u, 17u}) {
    auto prompt = ids;
    prompt[changed] = (prompt[changed] + 1) % static_cast<std::int32_t>(model.config().vocab_size);
    const SequenceRequest request = request_for(prompt, 3);
    expect_equal(conversation.generate(request), fresh(request), detail::join("token ", changed, " differs"));
  }
  for (const std::size_t kept : {70u, 33u, 1u}) {
    const SequenceRequest request = request_for({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept)}, 3);
    expect_equal(conversation.generate(request), fresh(request), detail::join(kept, " tokens"));
    expect_equal(conversation.generate(request), fresh(request), detail::join(kept, " tokens again"));
  }
}

TEST_P(ConversationOf, AnAnswerCutShortIsAsFreshRuns) {
  const SequenceRequest request = request_for(some(50, 3), 8);
  for (int steps = 0; steps < 8; ++steps) {  // some end in the prompt, some in the answer
    int left = steps;
    RunHooks hooks;
    hooks.is_wanted = [&](std::size_t) { return left-- > 0; };
    EXPECT_EQ(conversation.generate(request, hooks).finish_reason, FinishReason::interrupted);
  }
  RunHooks throwing;
  throwing.on_progress = [](const SequenceProgress&) { throw 1; };
  EXPECT_THROW(conversation.generate(request, throwing), int);
  expect_equal(conversation.generate(request), fresh(request), "after interruptions");
}

TEST_P(ConversationOf, RoomEndsAnAnswer) {
  const SequenceRequest request = request_for(some(kMaxModelLen - 3, 4), 100);
  expect_equal(conversation.generate(request), fresh(request), "nearly full");
  const SequenceRequest full = request_for(some(kMaxModelLen, 5), 100);
  expect_equal(conversation.generate(full), fresh(full), "full");
  EXPECT_THROW(conversation.generate(request_for(some(kMaxModelLen + 1, 6), 1)), Error);
}

TEST(Conversation, ComputesOnlyWhatIsNew) {
  const auto backend = test_backend(1);
  const Model model({.folder = CAJAL_TEST_DATA "/goldens/d_bf16_tied"}, *backend);
  Conversation conversation(model, nullptr, {.max_model_len = 64});
  auto ids = random_ids(20, model.config().vocab_size, 1);
  const SequenceResult result = conversation.generate(request_for(ids, 4));
  EXPECT_EQ(conversation.num_reused(), 0);
  for (const auto& token : result.tokens) ids.push_back(token.chosen.token_id);
  ids.push_back(1);
  conversation.generate(request_for(ids, 1));
  EXPECT_EQ(conversation.num_reused(), 23) << "the last token of an answer has not been computed yet";
  ids.resize(10);
  conversation.generate(request_for(ids, 1));
  EXPECT_EQ(conversation.num_reused(), 9) << "the last token of a prompt is computed for its logits";
}

std::string case_name(const testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).filename();
}
INSTANTIATE_TEST_SUITE_P(Goldens, ConversationOf, testing::ValuesIn(golden_folders()), case_name);

}  // namespace
}  // namespace cajal
