// A step allocates nothing: operator new is counted while one runs.
#include <gtest/gtest.h>

#include "backends/backend.h"
#include "compiler/model_graphs.h"
#include "counting_new.h"

namespace cajal {
namespace {

TEST(AStep, AllocatesNothing) {
  if (!kCountsNew) GTEST_SKIP() << "the sanitizer has replaced operator new: nothing can be counted";
  const auto backend = make_backend("cpu", {2});
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const bool experts : {false, true}) {
      const Bucket bucket{.num_tokens = 16, .num_seqs = 2, .max_blocks_per_seq = 2, .num_logits = 2};
      const Graph graph =
          backend->prepare(build_qwen3(test::small_config(experts), {.bucket = bucket, .dtype = dtype}));
      const auto executable = backend->compile(graph);
      // Zero weights do as well as any: what is counted does not depend on values.
      std::map<std::string, std::unique_ptr<Buffer>> buffers;
      const auto buffer = [&](const std::string& name) -> Buffer& {
        auto& b = buffers[name];
        TensorType type = graph.type(*graph.find_leaf(name));
        if (type.shape.dynamic()) type.shape[0] = 4;
        if (!b) b = backend->allocate(type.bytes());
        return *b;
      };
      const auto arena = backend->allocate(executable->plan().arena_bytes);
      executable->bind({buffer, buffer, arena.get()});
      for (const StepRows rows : {StepRows{16, 2}, StepRows{1, 1}, StepRows{7, 0}})
        executable->wait(executable->launch(rows));
      EXPECT_EQ(allocations_during([&] {
                  for (const StepRows rows : {StepRows{16, 2}, StepRows{1, 1}, StepRows{7, 0}})
                    executable->wait(executable->launch(rows));
                }),
                0)
          << to_string(dtype) << (experts ? " experts" : "");
    }
  EXPECT_EQ(allocations_during([] { delete new int; }), 1);  // the count counts
}

}  // namespace
}  // namespace cajal
