// Nor does what the host does around a step.
#include <gtest/gtest.h>

#include "counting_new.h"
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

}  // namespace
}  // namespace cajal
