// A model on several ranks is the model on one, and ends with a name where a rank is not what it should be.
#include "engine/ranks/rank_team.h"

#include <gtest/gtest.h>

#include <cmath>

#include "distributed/thread_group.h"
#include "engine/embedder.h"
#include "engine/generator.h"
#include "engine/ranks/damaging.h"
#include "engine/ranks/rank_follower.h"
#include "engine/scorer.h"

namespace cajal {
namespace {

std::string demo(const char* name) { return std::string(CAJAL_SOURCE_DIR "/share/") + name; }

std::vector<std::int32_t> some_tokens(std::int32_t count, std::int32_t salt) {
  std::vector<std::int32_t> ids;
  ids.reserve(static_cast<std::size_t>(count));
  for (std::int32_t k = 0; k < count; ++k) ids.push_back(17 + (13 * k + salt) % 97);
  return ids;
}

std::vector<SequenceRequest> some_requests() {
  std::vector<SequenceRequest> requests(4);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto salt = static_cast<std::int32_t>(i);
    requests[i].prompt = some_tokens(7 + 30 * salt, salt);
    requests[i].max_new_tokens = 6;
    requests[i].num_logprobs = 2;
  }
  requests[1].sampling = {.temperature = 1, .top_p = 0.9f, .seed = 3};
  return requests;
}

// What a model says when it is asked in every way.
struct Answers {
  std::vector<std::int32_t> tokens;
  std::vector<float> logits, embedding;
};

Answers ask(const Model& model) {
  Answers answers;
  Generator generator(model, nullptr, {.max_num_seqs = 4, .prefill_chunk_size = 32, .max_model_len = 256});
  for (const SequenceResult& result : generator.run(some_requests()))
    for (const GeneratedToken& token : result.tokens) answers.tokens.push_back(token.chosen.token_id);
  ScoreOptions options;
  options.on_logits = [&](std::int64_t, std::span<const float> row) {
    answers.logits.insert(answers.logits.end(), row.begin(), row.end());
  };
  score(model, some_tokens(20, 5), 256, options);
  const std::vector<std::vector<std::int32_t>> texts{some_tokens(9, 1)};
  embed(model, texts, {},
        [&](std::size_t, std::span<const float> values) { answers.embedding.assign(values.begin(), values.end()); });
  return answers;
}

Answers ask_ranks(const ParallelDegrees& degrees, ModelOptions options) {
  RankTeam team({.degrees = degrees, .device = "cpu", .backend = {.num_threads = 2}});
  options.ranks = &team.leader();
  const Model model(options, team.backend());
  EXPECT_EQ(model.parallel().tensor_parallel_size, degrees.tensor);
  EXPECT_EQ(model.parallel().expert_parallel_size, degrees.expert);
  return ask(model);
}

Answers ask_one(const ModelOptions& options) {
  const auto backend = make_backend("cpu", {2});
  return ask(Model(options, *backend));
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  return largest;
}

struct TeamCase {
  const char* model;
  ParallelDegrees degrees;
};

class Teams : public testing::TestWithParam<TeamCase> {};
INSTANTIATE_TEST_SUITE_P(Demo, Teams,
                         testing::Values(TeamCase{"demo-model", {.tensor = 2}}, TeamCase{"demo-model", {.tensor = 3}},
                                         TeamCase{"demo-model-moe", {.expert = 2}},
                                         TeamCase{"demo-model-moe", {.tensor = 2, .expert = 2}}),
                         [](const auto& info) {
                           return detail::join(info.index, "_tp", info.param.degrees.tensor, "_ep",
                                               info.param.degrees.expert);
                         });

TEST_P(Teams, SayWhatOneRankSays) {
  const ModelOptions options{.folder = demo(GetParam().model), .dtype = DType::f32};
  const Answers alone = ask_one(options), together = ask_ranks(GetParam().degrees, options);
  EXPECT_EQ(together.tokens, alone.tokens);
  EXPECT_LE(largest_difference(together.logits, alone.logits), 2e-4);
  EXPECT_LE(largest_difference(together.embedding, alone.embedding), 1e-5);
}

// Ranks have whole groups of weights, also of experts that are narrower than a group: the same integers and scales as one
// rank, and, where the degree divides eight, the same sums.
TEST(RankTeam, OfQuantisedModelsSaysToTheBitWhatOneRankSays) {
  for (const auto& recipe : {quantization_recipe("int8", 32), quantization_recipe("int4", 128)})
    for (const auto& [model, degrees] :
         {TeamCase{"demo-model", {.tensor = 2}}, TeamCase{"demo-model", {.tensor = 4}},
          TeamCase{"demo-model-moe", {.expert = 2}}, TeamCase{"demo-model-moe", {.tensor = 2, .expert = 2}}}) {
      const ModelOptions options{.folder = demo(model), .quantization = recipe};
      const Answers alone = ask_one(options), together = ask_ranks(degrees, options);
      const auto what = detail::join(model, " ", to_string(recipe), ", tp ", degrees.tensor);
      EXPECT_EQ(together.tokens, alone.tokens) << what;
      EXPECT_TRUE(together.logits == alone.logits) << what;
      EXPECT_TRUE(together.embedding == alone.embedding) << what;
    }
}

TEST(RankTeam, OfQuantisedModelsOnThreeRanksRoundsWeightsAsOneRankDoes) {
  for (const char* name : {"demo-model", "demo-model-moe"}) {
    const ModelOptions options{
        .folder = demo(name), .dtype = DType::f32, .quantization = quantization_recipe("int4", 128)};
    const Answers alone = ask_one(options), together = ask_ranks({.tensor = 3}, options);
    // Now and then another order of a sum rounds an activation to the next of its 255 values.
    EXPECT_LE(largest_difference(together.logits, alone.logits), 0.1) << name;
  }
}

TEST(RankTeam, AModelThatTheOtherRanksAreNotToldOfIsABugThatIsNamed) {
  const auto load_alone = [] {
    const auto ranks = make_thread_rank_groups({.tensor = 2});
    const auto backend = make_backend("cpu", {.num_threads = 1, .ranks = ranks.data()});
    const Model model({.folder = demo("demo-model")}, *backend);
  };
  EXPECT_DEATH(load_alone(), "on rank 0 of 2 without ModelOptions::ranks");
}

TEST(RankTeam, SaysWhichRankIsLost) {
  auto groups = make_thread_rank_groups({.tensor = 2});
  EXPECT_EQ(groups[0].world->failure(), "");
  groups[1].tensor->abandon("failed: of a test");
  EXPECT_EQ(groups[0].world->failure(), "rank 1 failed: of a test");
}

// Answers of a model of which rank 1 gets the n-th broadcast damaged; empty where it got through.
std::string failure_with_damage(int broadcast) {
  auto groups = make_thread_rank_groups({.tensor = 2});
  std::thread rank_1([&] {
    Damaging world(*groups[1].world, broadcast, 45);
    const auto backend = make_backend("cpu", {.num_threads = 1, .ranks = &groups[1]});
    RankFollower follower(world, *backend);
    EXPECT_THROW(follower.run(), Error);
  });
  std::string message;
  {
    const auto backend = make_backend("cpu", {.num_threads = 1, .ranks = &groups[0]});
    RankLeader leader(*groups[0].world);
    try {
      const Model model({.folder = demo("demo-model"), .ranks = &leader}, *backend);
      Generator generator(model, nullptr, {.max_num_seqs = 1, .max_model_len = 64});
      SequenceRequest request{.prompt = some_tokens(9, 1)};
      request.max_new_tokens = 8;
      generator.run(std::span(&request, 1));
    } catch (const Error& e) {
      message = e.message();
    }
    // From then on everything fails at once, for the same reason.
    EXPECT_THROW(Model({.folder = demo("demo-model"), .ranks = &leader}, *backend), Error);
  }
  rank_1.join();
  return message;
}

TEST(RankTeam, ARankThatHeardSomethingElseIsNamedWheneverItHappens) {
  // Loading, making a runner, its first bucket, the prompt, its second bucket, tokens.
  for (const int broadcast : {0, 1, 2, 3, 4, 5, 8})
    EXPECT_NE(failure_with_damage(broadcast).find("rank 1 failed: plan"), std::string::npos) << broadcast;
}

TEST(RankTeam, AFailureOfOneRankIsKnownToAllWithItsNumber) {
  run_thread_group(3, [](Communicator& world) {
    const RankReports reports = do_together(world, "load", [&] {
      if (world.rank() == 2) fail(ErrorCode::not_found, "no such file", remedy("look elsewhere"));
      return RankOutcome{.fingerprint = 1};
    });
    EXPECT_EQ(reports.own != nullptr, world.rank() == 2);
    ASSERT_TRUE(reports.other);
    EXPECT_EQ(reports.other->message(), "rank 2: no such file");
    EXPECT_EQ(reports.other->remedy(), "look elsewhere");
    EXPECT_EQ(reports.other->code(), ErrorCode::not_found);
  });
}

TEST(RankTeam, ARankWithAnotherModelIsNamed) {
  run_thread_group(3, [](Communicator& world) {
    const RankReports reports =
        do_together(world, "load", [&] { return RankOutcome{.fingerprint = world.rank() == 1 ? 5u : 4u}; });
    ASSERT_TRUE(reports.other);
    EXPECT_NE(reports.other->message().find("rank 1: load: the fingerprint is"), std::string::npos);
  });
}

TEST(RankTeam, ModelsThatCannotBeLoadedLeaveTheTeamAsItWas) {
  RankTeam team({.degrees = {.tensor = 2}, .device = "cpu", .backend = {.num_threads = 2}});
  const auto load = [&](const std::string& folder) {
    return Model({.folder = folder, .ranks = &team.leader()}, team.backend()).config().vocab_size;
  };
  EXPECT_THROW(load("/nowhere"), Error);
  EXPECT_GT(load(demo("demo-model")), 0);
}

TEST(RankTeam, OtherDevicesAreRefusedByName) {
  try {
    check_rank_device("cuda:1", "");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(e.message().find("cuda:1"), std::string::npos);
  }
}

}  // namespace
}  // namespace cajal
