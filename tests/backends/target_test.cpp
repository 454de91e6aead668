// What is decided for a machine by its name alone.
#include "backends/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "backends/backend.h"
#include "models/qwen3.h"

namespace cajal {
namespace {

using ::testing::HasSubstr;

Graph graph_of_shape(const std::string& name, const Bucket& bucket) {
  Qwen3GraphOptions options;
  options.bucket = bucket;
  return build_qwen3(load_qwen3_config(std::string(CAJAL_SOURCE_DIR) + "/bench/shapes/" + name), options);
}

std::string refusal(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_NE(e.remedy(), "");
    return e.message();
  }
  return "accepted";
}

TEST(Target, DecidesWhatItsBackendDecides) {
  const auto backend = make_backend("cpu", {.num_threads = 2});
  const auto target = make_target("cpu");
  EXPECT_EQ(target->name(), backend->target());
  const Graph graph = graph_of_shape("Qwen3-0.6B", {8, 2, 4, 2});
  const Graph prepared = backend->prepare(graph);
  EXPECT_EQ(to_text(target->prepare(graph)), to_text(prepared));
  const TargetPlan plan = target->plan(prepared, 2);
  const auto executable = backend->compile(prepared);
  EXPECT_EQ(to_text(plan.graph), to_text(executable->graph()));
  EXPECT_EQ(plan.kernel_names, executable->kernel_names());
  EXPECT_EQ(plan.memory.arena_bytes, executable->plan().arena_bytes);
}

TEST(Target, PlansForInstructionSetsThatThisMachineMayLack) {
  const Graph graph = graph_of_shape("Qwen3-30B-A3B", {4, 4, 4, 4});
  const std::vector<std::string> isas{"baseline", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"};
  for (std::size_t has = 0; has < isas.size(); ++has) {
    const std::string name = "cpu-" + isas[has];
    const auto target = make_target(name);
    EXPECT_EQ(target->name(), name);
    const TargetPlan plan = target->plan(target->prepare(graph), 16);
    EXPECT_EQ(find_overlap(plan.graph, sequential_schedule(plan.graph), plan.memory), "") << name;
    for (const std::string& kernel : plan.kernel_names)
      for (std::size_t lacks = has + 1; lacks < isas.size(); ++lacks)
        EXPECT_EQ(kernel.find(isas[lacks]), std::string::npos) << name << " runs " << kernel;
  }
}

TEST(Target, TakesTilesWhereThereAreAny) {
  const auto target = make_target("cpu-amx");
  for (const char* shape : {"Qwen3-0.6B", "Qwen3-30B-A3B"})
    for (const std::int64_t rows : {1, 512}) {
      const TargetPlan plan = target->plan(target->prepare(graph_of_shape(shape, {rows, rows, rows, rows})), 16);
      EXPECT_THAT(plan.kernel_names, testing::Contains("linear_bf16_amx")) << shape << " rows " << rows;
    }
}

TEST(Target, IsRefusedByNameWhereItDoesNotRun) {
  EXPECT_THAT(refusal([] { make_target("cpu-sse9"); }), HasSubstr("target 'cpu-sse9' is unknown"));
  EXPECT_THAT(refusal([] { make_target("sm_"); }), HasSubstr("target 'sm_' is unknown"));
  EXPECT_THAT(refusal([] { make_target("sm_9x"); }), HasSubstr("is unknown"));
  EXPECT_THAT(refusal([] { make_backend("cpu", {.num_threads = 1, .target = "sm_90"}); }),
              HasSubstr("The model was compiled for sm_90 but the current device is cpu-"));
  if (built_with_cuda()) return;
  EXPECT_THAT(refusal([] { make_target("sm_90"); }), HasSubstr("no CUDA backend"));
}

TEST(Target, RunsACpuAsOneWithoutItsNewestInstructions) {
  const auto backend = make_backend("auto", {.num_threads = 1, .target = "cpu-baseline"});
  EXPECT_EQ(backend->target(), "cpu-baseline");
  EXPECT_THAT(backend->description(), HasSubstr("baseline"));
}

TEST(Target, OfAGpuNeedsNoGpu) {
  if (!built_with_cuda()) GTEST_SKIP() << "this build has no CUDA backend";
  const auto target = make_target("sm_90");
  const TargetPlan plan = target->plan(target->prepare(graph_of_shape("Qwen3-8B", {128, 64, 64, 64})), 1);
  EXPECT_EQ(find_overlap(plan.graph, sequential_schedule(plan.graph), plan.memory), "");
  EXPECT_THAT(plan.kernel_names, testing::Contains("linear_wgmma"));
}

}  // namespace
}  // namespace cajal
