// Nor does what the host does around a step.
#include <gtest/gtest.h>

#include "counting_new.h"
#include "engine/llm_engine.h"
#include "engine/model_runner.h"
#include "engine/observability/metrics.h"
#include "engine/observability/step_trace.h"
#include "engine/scheduling/kv_cache_manager.h"

namespace cajal {
namespace {

TEST(ModelRunner, AllocatesNothingInASteadyStep) {
  if (!kCountsNew) GTEST_SKIP() << "the sanitizer has replaced operator new: nothing can be counted";
  const auto backend = make_backend("cpu", {2});
  for (const char* name : {"d_mqa", "m_mixed", "rope_dynamic"}) {
    const Model model({.folder = std::string(CAJAL_TEST_DATA "/goldens/") + name}, *backend);
    ModelRunner runner(model, {.max_num_seqs = 2,
                               .max_num_batched_tokens = 8,
                               .max_num_logits = 2,
                               .max_model_len = 128,
                               .num_kv_blocks = 5});
    KVCacheManager kv({.num_blocks = 5, .max_blocks_per_seq = 2});
    ASSERT_TRUE(kv.add(1, {}) && kv.reserve(1, 0, 100) && kv.add(2, {}) && kv.reserve(2, 0, 100));
    StepInput step;
    step.block_tables = {kv.block_table(1), kv.block_table(2)};
    for (std::int32_t i = 0; i < 7; ++i)
      step.rows.push_back({.token_id = i,
                           .position = i,
                           .seq_index = i % 2,
                           .slot = kv.slot(1 + i % 2, i),
                           .rope_length = 100,
                           .wants_logits = i > 4});
    std::vector<float> logits(static_cast<std::size_t>(runner.vocab_size()));
    const auto run = [&] {
      runner.run(step);
      runner.read_logits(1, logits);
    };
    run();
    EXPECT_EQ(allocations_during(run), 0) << name;
  }
}

// Greedy sequences without log-probabilities and text, all of them decoding. What a user asks beyond that allocates:
// penalties count tokens in a map, log-probabilities are a list for each token, text is text, and prompt lookup has an
// index that grows with the sequence.
TEST(LLMEngine, AllocatesNothingWhileSequencesDecode) {
  if (!kCountsNew) GTEST_SKIP() << "the sanitizer has replaced operator new: nothing can be counted";
  struct Counter final : EngineObserver {
    void on_update(const SequenceUpdate& update) noexcept override { tokens += update.token != nullptr; }
    std::int64_t tokens = 0;
  } observer;
  const auto backend = make_backend("cpu", {2});
  const Model model({.folder = CAJAL_SOURCE_DIR "/share/demo-model"}, *backend);
  LLMEngineOptions options;
  options.max_num_seqs = 32;
  options.max_model_len = 256;
  LLMEngine engine(model, nullptr, options, observer);
  EngineCore& core = engine.core();
  for (std::uint32_t i = 0; i < 32; ++i) {
    EngineRequest r{.id = i, .deadline = {}, .cache_salt = {}};
    for (std::uint32_t p = 0; p < 3 + i; ++p) r.sequence.prompt.push_back(static_cast<std::int32_t>(p % 7 + 10 * i));
    r.sequence.sampling.temperature = 0;
    r.sequence.max_new_tokens = 200;
    ASSERT_FALSE(core.add(r));
  }
  const auto steps = [&](int count) {
    for (int i = 0; i < count; ++i) core.step();
  };
  steps(40);
  const std::int64_t tokens = observer.tokens;
  EXPECT_EQ(allocations_during([&] { steps(70); }), 0);  // so many that each takes a further block of the cache
  EXPECT_EQ(observer.tokens - tokens, 32 * 70);
  core.abort_all();
  core.settle();
}

TEST(EngineMetrics, RecordingAllocatesNothing) {
  if (!kCountsNew) GTEST_SKIP() << "the sanitizer has replaced operator new: nothing can be counted";
  EngineMetrics metrics({.model_name = "m", .max_model_len = 4096, .max_draft_tokens = 4});
  EXPECT_EQ(allocations_during([&] {
              RequestTimings timings;
              timings.on_scheduled(std::chrono::seconds(1));
              timings.on_token(std::chrono::seconds(2));
              timings.on_token(std::chrono::seconds(3));
              timings.on_finished(std::chrono::seconds(4));
              metrics.on_request_added(2, 100);
              metrics.on_request_refused(ErrorCode::unavailable);
              metrics.on_preempted();
              metrics.on_step({.num_prefill_tokens = 512, .duration = std::chrono::seconds(1), .load = {1, 2, 0.5}});
              metrics.on_first_token(timings, 512);
              metrics.on_tokens(0.1, 3);
              metrics.on_draft(4, 2);
              metrics.on_sequence_finished({FinishReason::length, timings, 512});
              metrics.on_failure(EngineFailure::drafter);
            }),
            0);
}

TEST(StepTrace, RecordingAllocatesNothing) {
  if (!kCountsNew) GTEST_SKIP() << "the sanitizer has replaced operator new: nothing can be counted";
  StepTrace trace("/dev/null");
  const std::string text(200, '\x01');  // the longest that a text becomes
  EXPECT_EQ(allocations_during([&] {
              for (std::int64_t i = 0; i < 5000; ++i) {
                const std::chrono::microseconds at(i);
                trace.async_begin(1, "sequence", at);
                trace.begin(StepTrace::Track::device, "step", at, {{"rows", i}, {"share", 0.1}, {"kind", text}});
                trace.end(StepTrace::Track::device, at);
                trace.complete(StepTrace::Track::host, text, at, at, {{text, text}, {text, text}, {text, text}});
                trace.step_counters(at, {.num_running = i});
                trace.async_end(1, "sequence", at);
              }
            }),
            0);
  EXPECT_TRUE(trace.is_open());
}

// Sequences come, share, grow, are forked, go back and end.
void live(KVCacheManager& kv, std::span<const std::int32_t> tokens) {
  for (std::uint64_t id = 0; id < 6; ++id) {
    const auto own = tokens.subspan(id % 2 ? 0 : 40, 24 + id % 3 * 4);
    const auto found = kv.add(id, own, id % 3 ? "salt" : "another salt that is longer than a short string");
    CAJAL_CHECK(found && kv.reserve(id, *found, std::ssize(own)));
    kv.commit(id, own);
  }
  CAJAL_CHECK(kv.fork(0, 6, 22) && kv.reserve(6, 22, 30) && kv.reserve(0, 9, 20));
  for (std::uint64_t id = 0; id < 7; ++id) kv.release(id);
  kv.clear_pending_copies();
}

TEST(KVCacheManager, AllocatesNothingInASteadyState) {
  if (!kCountsNew) GTEST_SKIP() << "the sanitizer has replaced operator new: nothing can be counted";
  KVCacheManager kv({.num_blocks = 50, .max_blocks_per_seq = 10, .block_size = 4});
  std::vector<std::int32_t> tokens(80);
  const auto run = [&] {
    for (int i = 0; i < 20; ++i) {
      tokens[0] = i;  // so that all is new, and older blocks are evicted
      live(kv, tokens);
      live(kv, tokens);
      if (i == 10) kv.clear_prefix_cache();
    }
  };
  run();
  EXPECT_EQ(allocations_during(run), 0);
  EXPECT_GT(kv.statistics().evicted_blocks, 0);
  EXPECT_GT(kv.statistics().copied_blocks, 0);
  EXPECT_EQ(kv.find_inconsistency(), "");
}

TEST(KVCacheManager, WithoutMemoryNothingIsChangedAndAllCanBeReleased) {
  if (!kCountsNew) GTEST_SKIP() << "the sanitizer has replaced operator new: it cannot be made to fail";
  KVCacheManager kv({.num_blocks = 400, .max_blocks_per_seq = 4, .block_size = 4});
  std::vector<std::int32_t> tokens(12);
  std::uint64_t id = 0;
  int num_failed = 0;
  for (; id < 100; ++id) {
    const auto available = kv.num_available_blocks();
    const std::size_t copies = kv.pending_copies().size();
    const std::string salt = "a salt too long for a short string " + std::to_string(id);
    const auto attempt = [&] {
      if (id % 4 == 3) return kv.reserve(id - 1, 3, 10);
      if (id % 4 > 0) return kv.fork(id - id % 4, id, 10);
      return kv.add(id, tokens, salt).has_value();
    };
    for (std::int64_t count = 0; fails_with_memory_for(count, [&] { CAJAL_CHECK(attempt()); }); ++count) {
      ++num_failed;
      EXPECT_EQ(kv.num_available_blocks(), available);
      EXPECT_EQ(kv.pending_copies().size(), copies);
      EXPECT_FALSE(kv.contains(id));
      ASSERT_EQ(kv.find_inconsistency(), "");
    }
    if (id % 4 == 0) {
      ASSERT_TRUE(kv.reserve(id, 0, 12));
      kv.commit(id, tokens);
    }
    ASSERT_EQ(kv.find_inconsistency(), "");
  }
  EXPECT_GT(num_failed, 20);
  EXPECT_FALSE(fails_with_memory_for(0, [&] {
    kv.clear_prefix_cache();
    while (id-- > 0) kv.release(id);
  }));
  EXPECT_EQ(kv.num_available_blocks(), 399);
  EXPECT_EQ(kv.find_inconsistency(), "");
}

}  // namespace
}  // namespace cajal
