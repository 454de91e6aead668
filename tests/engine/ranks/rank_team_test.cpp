// A model on several ranks is the model on one.
#include "engine/ranks/rank_team.h"

#include <gtest/gtest.h>

#include "engine/generator.h"
#include "engine/golden.h"
#include "engine/scorer.h"

namespace cajal {
namespace {

std::string demo(const char* name) { return std::string(CAJAL_SOURCE_DIR "/share/") + name; }

struct Answers {
  std::vector<SequenceResult> generated;
  std::vector<std::vector<float>> logits;
};

std::vector<SequenceRequest> some_requests() {
  std::vector<SequenceRequest> requests(4);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for (std::int32_t k = 0; k < 7 + 30 * static_cast<std::int32_t>(i); ++k)
      requests[i].prompt.push_back(17 + 13 * k % 97 + static_cast<std::int32_t>(i));
    requests[i].max_new_tokens = 12;
    requests[i].num_logprobs = 2;
  }
  requests[1].sampling = {.temperature = 1, .top_p = 0.9f, .seed = 3};
  return requests;
}

Answers ask(const Model& model) {
  Answers answers;
  Generator generator(model, nullptr, {.max_num_seqs = 4, .prefill_chunk_size = 32, .max_model_len = 256});
  answers.generated = generator.run(some_requests());
  const auto prompt = some_requests()[2].prompt;
  ScoreOptions options;
  options.on_logits = [&](std::int64_t, std::span<const float> row) {
    answers.logits.emplace_back(row.begin(), row.end());
  };
  score(model, prompt, 256, options);
  return answers;
}

Answers ask_ranks(const ParallelDegrees& degrees, ModelOptions options) {
  RankTeam team({.degrees = degrees, .device = "cpu", .backend = {.num_threads = 2}});
  options.ranks = &team.leader();
  const Model model(options, team.backend());
  return ask(model);
}

TEST(RankTeam, SaysWhatOneRankSays) {
  const ModelOptions options{.folder = demo("demo-model")};
  const auto backend = make_backend("cpu", {2});
  const Answers alone = ask(Model(options, *backend));
  const Answers together = ask_ranks({.tensor = 2}, options);
  ASSERT_EQ(together.generated.size(), alone.generated.size());
  for (std::size_t i = 0; i < alone.generated.size(); ++i) {
    ASSERT_EQ(together.generated[i].tokens.size(), alone.generated[i].tokens.size());
    for (std::size_t k = 0; k < alone.generated[i].tokens.size(); ++k)
      EXPECT_EQ(together.generated[i].tokens[k].chosen.token_id, alone.generated[i].tokens[k].chosen.token_id);
  }
  EXPECT_EQ(together.logits, alone.logits);
}

}  // namespace
}  // namespace cajal
