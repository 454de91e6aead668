// Nor does what the host does around a step.
#include <gtest/gtest.h>

#include "counting_new.h"
#include "engine/kv_cache_manager.h"
#include "engine/model_runner.h"

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
    KVCacheManager kv(5, 2);
    ASSERT_TRUE(kv.reserve(1, 100) && kv.reserve(2, 100));
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

}  // namespace
}  // namespace cajal
