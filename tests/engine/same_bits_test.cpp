// A request's logits depend on its own tokens alone, bit for bit.
#include <gtest/gtest.h>

#include <random>

#include "engine/generator.h"
#include "engine/scorer.h"
#include "golden.h"
#include "test_device.h"

namespace cajal {
namespace {

std::vector<float> logits_of(const Model& model, std::span<const std::int32_t> ids, std::int64_t chunk) {
  std::vector<float> rows;
  ScoreOptions options;
  options.chunk_size = chunk;
  options.on_logits = [&](std::int64_t, std::span<const float> row) {
    rows.insert(rows.end(), row.begin(), row.end());
  };
  score(model, ids, static_cast<std::int64_t>(ids.size()), options);
  return rows;
}

std::vector<std::int32_t> random_ids(std::size_t count, std::int64_t vocab_size, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<std::int32_t> ids(count);
  for (auto& id : ids) id = static_cast<std::int32_t>(rng() % static_cast<std::uint64_t>(vocab_size));
  return ids;
}

// Kinds whose frequencies depend on the length of the request: a token generated is not one prompted.
bool depends_on_length(const Model& model) {
  return rotary_table(model.config().rope, model.config().head_dim, model.config().max_position_embeddings)
             .original_length > 0;
}

std::vector<SequenceResult> generate(const Model& model, std::span<const SequenceRequest> requests,
                                     std::int64_t max_num_seqs, std::int64_t chunk) {
  Generator generator(model, nullptr,
                      {.max_num_seqs = max_num_seqs, .prefill_chunk_size = chunk, .max_model_len = 256});
  return generator.run(requests);
}

SequenceRequest request_for(const Model& model, std::uint32_t i) {
  SequenceRequest r;
  r.prompt = random_ids(1 + (i * 37) % 150, model.config().vocab_size, i);
  r.sampling.temperature = i % 2 ? 0.8f : 0.0f;
  r.sampling.seed = 7;
  r.sequence_index = i;
  r.max_new_tokens = 3 + i % 5;
  r.num_logprobs = 3;
  return r;
}

void expect_equal(const SequenceResult& a, const SequenceResult& b, const std::string& what) {
  ASSERT_EQ(a.tokens.size(), b.tokens.size()) << what;
  for (std::size_t t = 0; t < a.tokens.size(); ++t) {
    EXPECT_EQ(a.tokens[t].chosen, b.tokens[t].chosen) << what << ", token " << t;
    EXPECT_EQ(a.tokens[t].top, b.tokens[t].top) << what << ", token " << t;
  }
}

class SameBits : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> one = test_backend(1), two = test_backend(2);
  Model model{{.folder = GetParam()}, *two};
};

TEST_P(SameBits, WhateverTheChunks) {
  const auto ids = random_ids(170, model.config().vocab_size, 1);
  const auto whole = logits_of(model, ids, 512);
  for (const std::int64_t chunk : {1, 7, 64, 100})
    EXPECT_EQ(logits_of(model, ids, chunk), whole) << "chunks of " << chunk;
}

TEST_P(SameBits, WhateverTheThreads) {
  const auto ids = random_ids(90, model.config().vocab_size, 2);
  const Model alone({.folder = GetParam()}, *one);
  EXPECT_EQ(logits_of(alone, ids, 512), logits_of(model, ids, 512));
}

TEST_P(SameBits, WhateverTheNeighbours) {
  std::vector<SequenceRequest> requests;
  for (std::uint32_t i = 0; i < 64; ++i) requests.push_back(request_for(model, i));
  const auto together = generate(model, requests, 64, 512);
  const auto in_small_chunks = generate(model, requests, 13, 7);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    expect_equal(in_small_chunks[i], together[i], detail::join("request ", i, " in chunks of 7 with 12 neighbours"));
    if (i % 8 == 0)
      expect_equal(generate(model, std::span(&requests[i], 1), 1, 512)[0], together[i],
                   detail::join("request ", i, " alone"));
  }
}

TEST_P(SameBits, GenerateSaysWhatScoreSays) {
  if (depends_on_length(model))
    GTEST_SKIP() << "the frequencies of a generated token are not those of a prompt's, as in Transformers";
  for (const std::uint32_t i : {0u, 3u, 11u}) {
    const SequenceRequest r = request_for(model, i);
    const auto result = generate(model, std::span(&r, 1), 1, 512)[0];
    std::vector<std::int32_t> ids = r.prompt;
    for (const auto& token : result.tokens) ids.push_back(token.chosen.token_id);
    const Score scored = score(model, ids, 512, {.chunk_size = 32, .num_top_logprobs = 3, .on_logits = {}});
    for (std::size_t t = 0; t < result.tokens.size(); ++t) {
      EXPECT_EQ(result.tokens[t].chosen.logprob, scored.logprobs[r.prompt.size() - 1 + t]);
      EXPECT_EQ(result.tokens[t].top, scored.top_logprobs[r.prompt.size() - 1 + t]);
    }
  }
}

std::string case_name(const testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).filename();
}
INSTANTIATE_TEST_SUITE_P(Goldens, SameBits, testing::ValuesIn(golden_folders()), case_name);

}  // namespace
}  // namespace cajal
