// What ends requests before their time: callers, limits, time and broken devices. Whoever is not concerned notices nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "engine/scheduling/faulty_executor.h"
#include "engine/scheduling/requests.h"
#include "engine/test_device.h"

namespace cajal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ManualClock final : public Clock {
 public:
  Time now() const override { return now_; }
  void advance(Time by) { now_ += by; }

 private:
  Time now_{};
};

EngineCoreOptions small_options() {
  EngineCoreOptions o;
  o.max_num_seqs = 4;
  o.max_num_batched_tokens = 32;
  o.prefill_chunk_size = 32;
  o.max_model_len = 192;
  o.num_kv_blocks = 13;
  return o;
}

RunnerLimits limits_of(const EngineCoreOptions& o) {
  return {.max_num_seqs = o.max_num_seqs,
          .max_num_batched_tokens = o.max_num_batched_tokens,
          .max_num_logits = o.max_num_seqs,
          .max_model_len = o.max_model_len,
          .num_kv_blocks = o.num_kv_blocks};
}

// A model for all tests, made once; its steps run when they are launched, so that tests know which is which.
const Model& demo_model() {
  static const std::unique_ptr<Backend> backend = test_backend(2);
  static const Model model({.folder = CAJAL_SOURCE_DIR "/share/demo-model"}, *backend);
  return model;
}

struct TestEngine {
  explicit TestEngine(const EngineCoreOptions& options = small_options()) : runner(demo_model(), limits_of(options)) {
    core.emplace(options, EngineCore::Parts{.executor = executor, .clock = clock, .observer = recorder});
  }

  std::optional<RequestRefusal> add(const EngineRequest& r) { return core->add(r); }
  void add_all(std::span<const EngineRequest> requests) {
    for (const EngineRequest& r : requests) ASSERT_FALSE(add(r)) << "request " << r.id;
  }
  void steps(int count) {
    for (int i = 0; i < count; ++i) core->step();
  }
  void finish() { run_to_the_end(*core); }
  Heard& heard(RequestId id, std::uint32_t sequence = 0) { return recorder.sequences.at({id, sequence}); }
  std::int64_t num_free_blocks() const { return core->kv_cache().num_available_blocks(); }

  ModelRunner runner;
  FaultyExecutor executor{runner};
  ManualClock clock;
  Recorder recorder;
  std::optional<EngineCore> core;
};

// A prompt of up to 90 tokens and an answer of up to 12.
EngineRequest request(RequestId id, std::size_t prompt_length, std::int64_t max_new_tokens = 8, std::uint32_t n = 1) {
  EngineRequest r{.id = id, .n = n, .deadline = {}, .cache_salt = {}};
  std::mt19937 rng(static_cast<unsigned>(id));
  r.sequence.prompt = random_tokens(rng, prompt_length, 4096);
  r.sequence.sampling = {.temperature = id % 2 ? 0.9f : 0.0f, .seed = id};
  r.sequence.max_new_tokens = max_new_tokens;
  r.sequence.num_logprobs = 1;
  return r;
}

std::vector<EngineRequest> some_requests(std::size_t count) {
  std::vector<EngineRequest> requests;
  for (std::size_t i = 0; i < count; ++i)
    requests.push_back(request(i, 1 + i * 29 % 90, 4 + static_cast<std::int64_t>(i * 5 % 9), i % 5 == 3 ? 2 : 1));
  return requests;
}

// What the same requests give when nothing goes wrong.
std::map<Recorder::Key, Heard> undisturbed(std::span<const EngineRequest> requests) {
  TestEngine engine;
  engine.add_all(requests);
  engine.finish();
  return engine.recorder.sequences;
}

// Exactly one end each, and those that are not among `concerned` came to it as if nothing had happened.
void expect_undisturbed_but(const TestEngine& engine, const std::map<Recorder::Key, Heard>& expected,
                            const std::set<Recorder::Key>& concerned) {
  EXPECT_EQ(engine.recorder.updates_after_the_end, 0);
  ASSERT_EQ(engine.recorder.sequences.size(), expected.size());
  for (const auto& [key, heard] : engine.recorder.sequences) {
    ASSERT_EQ(heard.finish_reasons.size(), 1u) << name_of(key);
    if (!concerned.contains(key)) expect_same(heard, expected.at(key), name_of(key));
  }
}

std::set<Recorder::Key> ended_by(const TestEngine& engine, FinishReason reason) {
  std::set<Recorder::Key> keys;
  for (const auto& [key, heard] : engine.recorder.sequences)
    if (heard.finish_reasons.size() == 1 && heard.finish_reasons[0] == reason) keys.insert(key);
  return keys;
}

// --- callers

TEST(EngineCore, MayBeToldToStopARequestInEveryPhase) {
  auto requests = some_requests(7);
  requests.push_back(request(100, 80, 12, 2));  // waits, has its prompt computed in chunks, forks, decodes
  const auto expected = undisturbed(requests);
  const RequestId victim = 100;
  std::set<std::size_t> tokens_said;
  for (int phase = 0; phase < 40; phase += phase < 6 ? 1 : 3) {
    SCOPED_TRACE(phase);
    TestEngine engine;
    engine.add_all(requests);
    engine.steps(phase);
    engine.core->abort(victim);
    engine.core->abort(victim);
    engine.core->abort(12345);
    ASSERT_EQ(engine.core->find_inconsistency(), "");
    engine.finish();
    expect_undisturbed_but(engine, expected, {{victim, 0}, {victim, 1}});
    const Heard& stopped = engine.heard(victim);
    tokens_said.insert(stopped.tokens.size());
    if (stopped.finish_reasons[0] == FinishReason::interrupted) {
      EXPECT_LT(stopped.tokens.size(), expected.at({victim, 0}).tokens.size());
    }
    for (std::size_t t = 0; t < stopped.tokens.size(); ++t)
      EXPECT_EQ(stopped.tokens[t].chosen, expected.at({victim, 0}).tokens[t].chosen);
  }
  EXPECT_GE(tokens_said.size(), 5u) << "some phase was not met";
}

TEST(EngineCore, MayBeToldToStopEverything) {
  for (const int phase : {0, 1, 2, 5, 9}) {
    TestEngine engine;
    engine.add_all(some_requests(7));
    engine.steps(phase);
    engine.core->abort_all();
    EXPECT_FALSE(engine.core->has_work());
    EXPECT_EQ(engine.num_free_blocks(), 12);
    for (const auto& [key, heard] : engine.recorder.sequences) EXPECT_EQ(heard.finish_reasons.size(), 1u);
    ASSERT_FALSE(engine.add(request(0, 10)));
    engine.finish();
    EXPECT_EQ(engine.heard(0).finish_reasons.size(), 2u) << "the same id may be used again";
  }
}

TEST(EngineCore, EndsWhatIsNotOverAtItsDeadline) {
  auto requests = some_requests(7);
  const auto expected = undisturbed(requests);
  requests[1].deadline = std::chrono::seconds(6);
  requests[3].deadline = std::chrono::seconds(9);
  requests[6].deadline = std::chrono::seconds(1);
  requests[2].deadline = std::chrono::hours(1);
  TestEngine engine;
  engine.add_all(requests);
  while (engine.core->has_work()) {
    engine.core->step();
    engine.clock.advance(std::chrono::seconds(1));
  }
  engine.finish();
  const auto late = ended_by(engine, FinishReason::deadline_exceeded);
  EXPECT_THAT(late, ElementsAre(Recorder::Key{1, 0}, Recorder::Key{3, 0}, Recorder::Key{3, 1}, Recorder::Key{6, 0}));
  expect_undisturbed_but(engine, expected, late);
}

// --- what is refused

void expect_refused(TestEngine& engine, const EngineRequest& r, ErrorCode code, const std::string& message) {
  const auto heard = engine.recorder.sequences.size();
  const auto refused = engine.recorder.refused;
  const auto refusal = engine.add(r);
  ASSERT_TRUE(refusal) << message;
  EXPECT_EQ(refusal->code, code) << refusal->message;
  EXPECT_THAT(refusal->message, HasSubstr(message));
  EXPECT_EQ(engine.recorder.refused, refused + 1);
  EXPECT_EQ(engine.recorder.sequences.size(), heard) << "a refusal is no update";
  EXPECT_EQ(engine.core->find_inconsistency(), "");
}

TEST(EngineCore, RefusesWhatMakesNoSenseAndGoesOn) {
  TestEngine engine;
  const auto invalid = ErrorCode::invalid_argument;
  ASSERT_FALSE(engine.add(request(1, 20)));
  expect_refused(engine, request(1, 30), invalid, "request id 1 is in use");
  expect_refused(engine, request(2, 10, 8, 0), invalid, "n is 0, expected 1..1024");
  expect_refused(engine, request(2, 10, 8, 1025), invalid, "n is 1025, expected 1..1024");
  expect_refused(engine, request(2, 193), invalid, "the prompt has 193 tokens, and the model takes at most 192");
  expect_refused(engine, request(2, 0), invalid, "the prompt has no tokens");
  expect_refused(engine, request(2, 10, -1), invalid, "max_new_tokens is -1");
  auto r = request(2, 10);
  r.sequence.prompt[3] = 4096;
  expect_refused(engine, r, invalid, "token id 4096 at index 3");
  r = request(2, 10);
  r.sequence.sampling.top_p = 1.5f;
  expect_refused(engine, r, invalid, "top_p is 1.5");
  r = request(2, 10);
  r.sequence.stop = {"x"};
  expect_refused(engine, r, invalid, "there is no tokenizer");
  r = request(2, 10);
  r.sequence.num_logprobs = 4097;
  expect_refused(engine, r, invalid, "logprobs is 4097");
  engine.finish();
  EXPECT_THAT(engine.heard(1).finish_reasons, ElementsAre(FinishReason::length));
  EXPECT_EQ(engine.recorder.sequences.size(), 1u);
}

TEST(EngineCore, RefusesMoreThanItsQueueHolds) {
  auto options = small_options();
  options.max_num_waiting = 5;
  options.max_waiting_tokens = 150;
  TestEngine engine(options);
  const auto full = ErrorCode::unavailable;
  ASSERT_FALSE(engine.add(request(1, 10, 8, 4)));
  expect_refused(engine, request(2, 10, 8, 2), full, "4 sequences wait, at most 5 may");
  ASSERT_FALSE(engine.add(request(2, 90)));
  expect_refused(engine, request(3, 1), full, "5 sequences wait, at most 5 may");
  engine.steps(6);  // now some run
  expect_refused(engine, request(3, 60), full, "prompts of 100 tokens are under way, at most 150 may be");
  ASSERT_FALSE(engine.add(request(3, 40)));
  engine.finish();
  for (const RequestId id : {1, 2, 3})
    EXPECT_THAT(engine.heard(id).finish_reasons, ElementsAre(FinishReason::length)) << id;
}

TEST(EngineCore, EndsAtOnceWhatHasNoRoomForAToken) {
  TestEngine engine;
  ASSERT_FALSE(engine.add(request(1, 192)));
  ASSERT_FALSE(engine.add(request(2, 10, 0)));
  ASSERT_FALSE(engine.add(request(3, 191, 50)));
  engine.finish();
  for (const RequestId id : {1, 2, 3})
    EXPECT_THAT(engine.heard(id).finish_reasons, ElementsAre(FinishReason::length)) << id;
  EXPECT_EQ(engine.heard(1).tokens.size(), 0u);
  EXPECT_EQ(engine.heard(2).tokens.size(), 0u);
  EXPECT_EQ(engine.heard(3).tokens.size(), 1u);
}

TEST(EngineCore, RefusesToBeMadeWithACacheThatHoldsNoSequence) {
  auto options = small_options();
  options.num_kv_blocks = 3;
  EXPECT_THROW(TestEngine{options}, Error);
  options.num_kv_blocks = 4;
  EXPECT_NO_THROW(TestEngine{options});
  options.reserve_slots = true;
  EXPECT_THROW(TestEngine{options}, Error);
}

// --- broken devices

void expect_only_the_step_fails(const std::function<void(FaultyExecutor&, std::int64_t)>& breaks, const char* why) {
  const auto requests = some_requests(12);
  const auto expected = undisturbed(requests);
  for (const std::int64_t step : {0, 1, 4, 11}) {
    SCOPED_TRACE(step);
    TestEngine engine;
    breaks(engine.executor, step);
    engine.add_all(requests);
    engine.finish();
    EXPECT_EQ(engine.core->failure(), "");
    EXPECT_EQ(engine.recorder.failed_steps, 1);
    const auto failed = ended_by(engine, FinishReason::error);
    EXPECT_GE(failed.size(), 1u);
    EXPECT_LE(failed.size(), 4u) << "no more than run side by side";
    for (const auto& key : failed) EXPECT_THAT(engine.heard(key.first, key.second).error, HasSubstr(why));
    expect_undisturbed_but(engine, expected, failed);
  }
}

TEST(EngineCore, FailsWhoWasInAStepThatCouldNotBeLaunched) {
  expect_only_the_step_fails(
      [](FaultyExecutor& e, std::int64_t bad) { e.launch_throws = [bad](std::int64_t step) { return step == bad; }; },
      "the launch failed");
}

TEST(EngineCore, FailsWhoWasInAStepThatFailed) {
  expect_only_the_step_fails(
      [](FaultyExecutor& e, std::int64_t bad) { e.wait_throws = [bad](std::int64_t step) { return step == bad; }; },
      "the step failed");
}

TEST(EngineCore, EndsAfterThreeFailedStepsInARowWithOneMessageForAll) {
  TestEngine engine;
  const auto requests = some_requests(20);
  engine.executor.wait_throws = [](std::int64_t step) { return step >= 2; };
  engine.add_all(requests);
  engine.finish();
  EXPECT_THAT(engine.core->failure(), HasSubstr("the step failed"));
  EXPECT_EQ(engine.recorder.failed_steps, EngineCore::kMaxFailedSteps);
  EXPECT_EQ(engine.recorder.updates_after_the_end, 0);
  for (const EngineRequest& r : requests)
    for (std::uint32_t i = 0; i < r.n; ++i) ASSERT_EQ(engine.heard(r.id, i).finish_reasons.size(), 1u);
  EXPECT_GT(engine.recorder.count(FinishReason::error), 12);
  expect_refused(engine, request(500, 10), ErrorCode::unavailable, "the engine has ended: ");
  const auto launched = engine.executor.launched.size();
  engine.core->step();
  engine.core->abort(3);
  engine.core->settle();
  EXPECT_EQ(engine.executor.launched.size(), launched) << "it runs nothing any more";
}

TEST(EngineCore, SurvivesFailedStepsThatAreNotInARow) {
  TestEngine engine;
  engine.executor.launch_throws = [](std::int64_t step) { return step % 3 != 2; };
  engine.add_all(some_requests(20));
  engine.finish();
  EXPECT_EQ(engine.core->failure(), "");
  EXPECT_GT(engine.recorder.failed_steps, EngineCore::kMaxFailedSteps);
  for (const auto& [key, heard] : engine.recorder.sequences) ASSERT_EQ(heard.finish_reasons.size(), 1u);
}

TEST(EngineCore, EndsOnlyTheSequenceWhoseLogitsAreNotFinite) {
  auto requests = some_requests(9);
  requests.push_back(request(50, 120, 12));  // the only one that gets so far
  const auto expected = undisturbed(requests);
  for (const std::int32_t position : {119, 123}) {
    TestEngine engine;
    engine.executor.logits_are_nan = [&](const TokenRow& row) { return row.position == position; };
    engine.add_all(requests);
    engine.finish();
    expect_undisturbed_but(engine, expected, {{50, 0}});
    EXPECT_THAT(engine.heard(50).finish_reasons, ElementsAre(FinishReason::numerical_error));
    EXPECT_THAT(engine.heard(50).error, HasSubstr("not finite"));
    EXPECT_EQ(engine.heard(50).tokens.size(), static_cast<std::size_t>(position - 119));
    EXPECT_EQ(engine.recorder.failed_steps, 0);
  }
}

TEST(EngineCore, EndsWhenAStepDoesNot) {
  TestEngine engine;
  const auto requests = some_requests(12);
  engine.executor.hangs = [](std::int64_t step) { return step == 5; };
  engine.add_all(requests);
  engine.finish();
  EXPECT_TRUE(engine.core->hangs());
  EXPECT_THAT(engine.core->failure(), HasSubstr("the device has not finished a step within 600 s"));
  EXPECT_EQ(engine.recorder.updates_after_the_end, 0);
  for (const EngineRequest& r : requests) {
    for (std::uint32_t i = 0; i < r.n; ++i) {
      const Heard& heard = engine.heard(r.id, i);
      ASSERT_EQ(heard.finish_reasons.size(), 1u);
      if (heard.finish_reasons[0] == FinishReason::error) {
        EXPECT_EQ(heard.error, engine.core->failure());
      }
    }
  }
  expect_refused(engine, request(500, 10), ErrorCode::unavailable, "the engine has ended: ");
}

}  // namespace
}  // namespace cajal
