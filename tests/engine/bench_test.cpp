#include "engine/bench.h"

#include <gtest/gtest.h>

#include "shapes.h"

namespace cajal {
namespace {

using Cases = std::vector<BenchCase>;

TEST(BenchCases, AreLlamaBenchsRows) {
  const std::int64_t prompts[] = {512, 0}, gens[] = {16}, batches[] = {1, 4}, depths[] = {0, 100};
  const Cases expected = {{512, 0, 1, 0}, {512, 0, 1, 100}, {512, 0, 4, 0}, {512, 0, 4, 100},
                          {0, 16, 1, 0},  {0, 16, 1, 100},  {0, 16, 4, 0},  {0, 16, 4, 100}};
  EXPECT_EQ(bench_cases(prompts, gens, batches, depths), expected);
}

// A model of two layers of a released shape.
class Bench : public testing::TestWithParam<const char*> {
 protected:
  static ModelOptions options() {
    ModelOptions o{.folder = shape_folder(GetParam()), .load_format = LoadFormat::dummy};
    o.config_overrides = parse_json(
        R"({"num_hidden_layers": 2, "vocab_size": 1000, "hidden_size": 256, "intermediate_size": 512, "moe_intermediate_size": 64,
            "num_experts": 8, "num_experts_per_tok": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
            "layer_types": null, "max_position_embeddings": 512, "max_window_layers": 2})",
        "overrides");
    return o;
  }
  std::unique_ptr<Backend> backend = make_backend("cpu", {1});
  Model model{options(), *backend};
};

TEST_P(Bench, TimesEveryCaseAndCountsItsWork) {
  const Cases cases = {{70, 0, 1, 0}, {70, 0, 3, 33}, {0, 5, 1, 0}, {0, 5, 3, 130}};
  std::vector<std::pair<std::size_t, int>> calls;
  BenchOptions options{.repeats = 2, .chunk_size = 64};
  options.on_progress = [&](const BenchProgress& p) {
    EXPECT_EQ(p.num_cases, cases.size());
    EXPECT_EQ(p.num_repeats, 2);
    calls.emplace_back(p.case_index, p.repeat);
    return true;
  };
  const BenchReport report = run_bench(model, cases, options);
  EXPECT_EQ(calls.size(), cases.size() * 3);
  ASSERT_EQ(report.results.size(), cases.size());
  const Graph graph = model.graph(Bucket{});
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const BenchResult& r = report.results[i];
    const BenchCase& c = cases[i];
    EXPECT_EQ(r.what, c);
    EXPECT_GT(r.tokens_per_s.min, 0);
    EXPECT_LE(r.tokens_per_s.min, r.tokens_per_s.median);
    EXPECT_LE(r.tokens_per_s.median, r.tokens_per_s.max);
    EXPECT_GT(r.percent_of_ceiling, 0);
    EXPECT_LE(r.ceilings.read_bytes_per_s, report.ceilings.read_bytes_per_s);
    EXPECT_TRUE(r.profile.empty());
    // However it is cut into steps, the operations are those of one prefill, with logits for the last row or for all.
    const Cost whole =
        step_cost(graph, uniform_step(c.n_batch, {c.depth, c.n_prompt + c.n_gen}, c.n_gen > 0 ? c.n_gen : 1));
    EXPECT_DOUBLE_EQ(r.cost.flops(), whole.flops()) << i;
    EXPECT_DOUBLE_EQ(r.cost.kv_written_bytes, whole.kv_written_bytes) << i;
  }
}

TEST_P(Bench, CountsTheExpertsThatAStepReads) {
  const Cases cases = {{0, 2, 1, 0}, {0, 2, 4, 5}, {8, 0, 1, 0}};
  const BenchReport report = run_bench(model, cases, {.repeats = 1});
  const bool mixture = model.config().num_experts > 0;
  for (const BenchResult& r : report.results) {
    const bool counted = mixture && r.what.n_gen > 0;
    EXPECT_EQ(r.distinct_experts.min >= 2, counted);  // each row's own are different
    EXPECT_LE(r.distinct_experts.max, counted ? std::min<double>(8, 2.0 * static_cast<double>(r.what.n_batch)) : 0);
  }
}

TEST_P(Bench, ProfilesEveryKernelOfEveryStep) {
  const Cases cases = {{0, 4, 2, 10}};
  const BenchReport report = run_bench(model, cases, {.repeats = 1, .profile = true});
  ASSERT_EQ(report.results.size(), 1u);
  const auto executable = backend->compile(model.graph({2, 2, 1, 2}));
  std::size_t kernels = 0;
  for (const auto& name : executable->kernel_names()) kernels += !name.empty();
  std::uint64_t calls = 0;
  double percent = 0, weight_bytes = 0;
  for (const KernelProfile& k : report.results[0].profile) {
    calls += k.calls;
    percent += k.percent_of_run;
    weight_bytes += k.weight.empty() ? 0 : k.bytes_per_s * k.seconds;
    if (!k.weight.empty()) {
      EXPECT_GT(k.flops_per_s, 0) << k.kernel;
      EXPECT_GT(k.percent_of_floor, 0) << k.kernel;
    }
  }
  EXPECT_EQ(calls, 4 * kernels);
  EXPECT_NEAR(percent, 100, 1e-6);
  EXPECT_GT(weight_bytes, 0.9 * report.results[0].cost.weight_bytes - 4 * 1000 * 256 * 2);
}

TEST_P(Bench, EndsWhenAsked) {
  const Cases cases = {{8, 0, 1, 0}, {0, 2, 1, 0}};
  BenchOptions options{.repeats = 1};
  options.on_progress = [](const BenchProgress& p) { return p.case_index == 0; };
  EXPECT_EQ(run_bench(model, cases, options).results.size(), 1u);
}

TEST_P(Bench, RefusesWhatCannotRun) {
  const auto code = [&](const BenchCase& c) -> std::optional<ErrorCode> {
    try {
      run_bench(model, Cases{c}, {.repeats = 1});
    } catch (const Error& e) {
      return e.code();
    }
    return std::nullopt;
  };
  EXPECT_EQ(code({0, 0, 1, 0}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({5, 5, 1, 0}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({5, 0, 0, 0}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({5, 0, 1, -1}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({500, 0, 1, 100}), ErrorCode::invalid_argument);  // longer than the model takes
  EXPECT_EQ(code({500, 0, 1 << 30, 0}), ErrorCode::out_of_memory);
}

INSTANTIATE_TEST_SUITE_P(Models, Bench, testing::Values("Qwen3-0.6B", "Qwen3-30B-A3B"), [](const auto& param_info) {
  return std::string(param_info.param) == "Qwen3-0.6B" ? "dense" : "moe";
});

}  // namespace
}  // namespace cajal
