#include "backends/cpu/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "backends/cpu/kernels/attention.h"
#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/program_fixture.h"
#include "compiler/model_graphs.h"
#include "graph/random_graph.h"

namespace cajal::cpu {
namespace {

using test::Outputs;
using test::Program;
using test::StepData;

constexpr std::array<std::string_view, 3> kAll = {kAddRmsNorm, kSiluMulHalves, kQkNormRopeKvWrite};
constexpr Bucket kBucket{.num_tokens = 24, .num_seqs = 3, .max_blocks_per_seq = 2, .num_logits = 3};

Graph fuse_all(const Graph& graph) { return fuse_regions(fuse_projections(graph), kAll); }
Graph store(const Graph& graph, std::uint32_t isa) {
  return assign_storage(graph, {[=](const TensorType& t) { return linear_weight_storage(t.dtype, isa); },
                                [=](const TensorType& t) { return kv_cache_storage(t.dtype, t.shape[3], isa).k; },
                                [=](const TensorType& t) { return kv_cache_storage(t.dtype, t.shape[3], isa).v; }});
}
Graph prepare(const Graph& graph, std::uint32_t isa) {
  return eliminate_dead_code(fuse_regions(store(fuse_projections(graph), isa), kAll));
}
Graph flatten(const Graph& graph) {
  return inline_regions(graph, [](std::string_view) { return false; });
}

std::vector<std::pair<std::string, Graph>> models(DType dtype) {
  std::vector<std::pair<std::string, Qwen3Config>> configs;
  for (const bool experts : {false, true}) {
    const std::string name = experts ? "moe" : "dense";
    Qwen3Config c = cajal::test::small_config(experts);
    configs.emplace_back(name, c);
    c.attention_bias = true;
    c.sliding_window = {5, 0};
    configs.emplace_back(name + ", biases, sliding window", c);
    c = cajal::test::small_config(experts);
    c.head_dim = 10;
    c.hidden_size = 36;
    c.intermediate_size = 50;
    c.moe_intermediate_size = experts ? 22 : 0;
    c.num_key_value_heads = 1;
    configs.emplace_back(name + ", odd sizes", c);
  }
  configs[3].second.sparse_layer = {true, false};
  configs.emplace_back("qwen2_moe", cajal::test::small_qwen2_moe());
  std::vector<std::pair<std::string, Graph>> graphs;
  for (const auto& [name, config] : configs) {
    Qwen3GraphOptions options{.bucket = kBucket, .dtype = dtype};
    graphs.emplace_back(name, build_qwen3(config, options));
  }
  Qwen3GraphOptions tied{.bucket = kBucket, .dtype = dtype};
  tied.lm_head_tensor = tied.embedding_tensor;
  graphs.emplace_back("dense, tied", build_qwen3(configs[0].second, tied));
  return graphs;
}

// The first difference, in words that name the step's output; empty if there is none.
std::string difference(const Outputs& a, const Outputs& b) {
  if (a.size() != b.size()) return "different numbers of outputs";
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i]) {
      const auto at = std::mismatch(a[i].begin(), a[i].end(), b[i].begin(), b[i].end()).first - a[i].begin();
      return detail::join("output ", i, " differs at byte ", at, " of ", a[i].size());
    }
  return "";
}

bool has_nan(const Outputs& outputs, DType dtype) {
  for (const auto& bytes : outputs)
    for (std::size_t i = 0; i + size_of(dtype) <= bytes.size(); i += size_of(dtype)) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, bytes.data() + i, size_of(dtype));
      const float f =
          dtype == DType::f32 ? std::bit_cast<float>(bits) : bf16_to_float(static_cast<std::uint16_t>(bits));
      if (f != f) return true;
    }
  return false;
}

class Programs : public testing::TestWithParam<DType> {
 protected:
  // Every way to run the graph gives the bits of the graph as it was built, on the slowest instruction set.
  void expect_same_bits(const Graph& built, std::int64_t vocab_size, unsigned seed, const std::string& what) {
    const std::uint32_t isa = detect_isa();
    const auto steps = test::random_steps(kBucket, vocab_size, Program::kBlocks, seed);
    const Outputs expected = Program(built, kBaseline, 1).run(steps);
    EXPECT_FALSE(has_nan(expected, GetParam())) << what;
    const std::pair<const char*, Graph> variants[] = {
        {"built", built},
        {"fuse_projections", fuse_projections(built)},
        {"fuse_regions", fuse_all(built)},
        {"inline_regions", flatten(fuse_all(built))},
        {"eliminate_dead_code", eliminate_dead_code(built)},
        {"assign_storage", store(built, isa)},
        {"prepared", prepare(built, isa)},
        {"prepared and inlined", flatten(prepare(built, isa))},
    };
    for (const auto& [pass, graph] : variants)
      EXPECT_EQ(difference(expected, Program(graph).run(steps)), "") << what << ", " << pass;
    for (const std::uint32_t lower : {std::uint32_t{kBaseline}, std::uint32_t{kAvx2}, std::uint32_t{kAvx2 | kAvx512}})
      if ((lower & ~isa) == 0) {
        EXPECT_EQ(difference(expected, Program(prepare(built, lower), lower).run(steps)), "")
            << what << ", " << isa_name(lower);
      }
  }
};
INSTANTIATE_TEST_SUITE_P(Types, Programs, testing::Values(DType::f32, DType::bf16),
                         [](const auto& type) { return std::string(to_string(type.param)); });

TEST_P(Programs, OfModelsGiveTheSameBitsWhateverPassesTheyWentThrough) {
  for (const auto& [name, graph] : models(GetParam())) expect_same_bits(graph, 96, 1, name);
}

TEST_P(Programs, OfRandomGraphsGiveTheSameBitsWhateverPassesTheyWentThrough) {
  for (unsigned seed = 0; seed < 12; ++seed)
    expect_same_bits(cajal::test::random_graph(seed, {.dtype = GetParam(), .bucket = kBucket}),
                     cajal::test::RandomGraph::kVocabSize, seed, detail::join("random graph ", seed));
}

TEST_P(Programs, GiveTheSameBitsInABiggerBucket) {
  const Qwen3Config config = cajal::test::small_config(true);
  Bucket bigger = kBucket;
  bigger.num_tokens = 100;
  bigger.num_logits = 7;
  bigger.num_seqs = 5;
  bigger.max_blocks_per_seq = 4;
  const auto steps = test::random_steps(kBucket, 96, Program::kBlocks, 3);
  const auto run = [&](const Bucket& bucket) {
    return Program(prepare(build_qwen3(config, {.bucket = bucket, .dtype = GetParam()}), detect_isa())).run(steps);
  };
  EXPECT_EQ(difference(run(kBucket), run(bigger)), "");
}

TEST_P(Programs, GiveTheSameBitsThroughTheBackend) {
  const auto backend = make_backend("cpu", {2});
  for (const auto& [name, built] : models(GetParam())) {
    const auto steps = test::random_steps(kBucket, 96, Program::kBlocks, 5);
    const Graph graph = backend->prepare(built);
    std::map<std::string, std::unique_ptr<Buffer>> buffers;
    struct Sink : WeightSink {
      Backend* backend;
      std::map<std::string, std::unique_ptr<Buffer>>* into;
      std::span<std::byte> destination(const std::string& leaf, const TensorType& type) override {
        return ((*into)[leaf] = backend->allocate(type.bytes()))->host_view();
      }
    } sink;
    sink.backend = backend.get(), sink.into = &buffers;
    Staging staging(backend->host_threads());
    fill_all_dummy(graph, {}, 1, sink, staging);
    for (const Node& node : graph.nodes()) {
      if (!std::holds_alternative<ops::State>(node.op)) continue;
      TensorType type = graph.type(node.results[0]);
      type.shape[0] = Program::kBlocks;
      buffers[node.name] = backend->allocate(type.bytes());
    }
    const auto executable = backend->compile(graph);
    const auto arena = backend->allocate(executable->plan().arena_bytes);
    const auto buffer = [&](const std::string& leaf) -> Buffer& { return *buffers.at(leaf); };
    executable->bind({buffer, buffer, arena.get()});
    EXPECT_EQ(find_overlap(executable->graph(), sequential_schedule(executable->graph()), executable->plan()), "");

    Outputs found;
    for (const StepData& step : steps) {
      const auto put = [&](const char* input, const std::vector<std::int32_t>& from, std::size_t at = 0) {
        const auto into = executable->input(input);
        ASSERT_LE((at + from.size()) * 4, into.size());
        std::memcpy(into.data() + at * 4, from.data(), from.size() * 4);
      };
      put("input_ids", step.ids), put("positions", step.positions), put("slot_mapping", step.slots),
          put("seq_indices", step.seqs);
      put("logits_indices", step.wanted);
      for (std::size_t s = 0; s < step.tables.size(); ++s)
        put("block_tables", step.tables[s], s * static_cast<std::size_t>(kBucket.max_blocks_per_seq));
      executable->wait(executable->launch(
          {static_cast<std::int64_t>(step.ids.size()), static_cast<std::int64_t>(step.wanted.size())}));
      const auto logits = executable->output(0);
      found.emplace_back(logits.begin(),
                         logits.begin() + static_cast<std::ptrdiff_t>(logits.size() / 3 * step.wanted.size()));
    }
    EXPECT_EQ(difference(Program(built, kBaseline, 1).run(steps), found), "") << name;
  }
}

// Whenever a plan gone wrong changes what a program computes, the checker has seen it. On kernels without scratch memory,
// for those that have some keep indices in it, and may crash on what they find there instead.
TEST(APlanGoneWrong, IsFoundWheneverItChangesAResult) {
  std::mt19937 random(2);
  int changed = 0, complaints = 0;
  constexpr int kMutations = 400;
  for (const bool fused : {false, true}) {
    Bucket bucket = kBucket;
    bucket.num_tokens = 6;
    const Graph built = build_qwen3(cajal::test::small_config(false), {.bucket = bucket, .dtype = DType::f32});
    // One thread: what a broken plan makes kernels do on two is a race, and no two runs of it are alike.
    Program program(fused ? prepare(built, kBaseline) : built, kBaseline, 1);
    const auto steps = test::random_steps(bucket, 96, Program::kBlocks, 2);
    const MemoryPlan& plan = program.plan();
    const Outputs expected = program.run(steps);
    ASSERT_EQ(find_overlap(program.graph(), program.schedule(), plan), "");

    std::vector<std::uint32_t> values;
    for (std::uint32_t v = 0; v < plan.slots.size(); ++v)
      if (plan.slots[v].bytes) values.push_back(v);
    for (const Slot& scratch : plan.scratch) ASSERT_EQ(scratch.bytes, 0u);
    for (int i = 0; i < kMutations / 2; ++i) {
      MemoryPlan broken = plan;
      const auto any = [&]() -> Slot& { return broken.slots[values[random() % values.size()]]; };
      switch (random() % 3) {
        case 0: std::swap(any().offset, any().offset); break;
        case 1: any().offset = any().offset; break;
        default: any().offset += kPlanAlignment * (1 + random() % 3);
      }
      std::size_t end = plan.arena_bytes;
      for (const Slot& slot : broken.slots) end = std::max(end, slot.offset + slot.bytes);
      const std::string problem = find_overlap(program.graph(), program.schedule(), broken);
      const std::string changes = difference(expected, program.run(steps, broken, end));
      complaints += !problem.empty();
      changed += !changes.empty();
      EXPECT_TRUE(changes.empty() || !problem.empty()) << changes;
    }
  }
  EXPECT_GT(changed, kMutations / 8);
  EXPECT_LT(complaints, kMutations);
}

TEST(Lowering, RefusesWhatNoKernelDoes) {
  const auto why = [](const Graph& graph) {
    try {
      select_kernels(graph, detect_isa(), 1);
      return std::string();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::unsupported);
      return e.message();
    }
  };
  Qwen3Config wide = cajal::test::small_config(false);
  wide.head_dim = 1024;
  EXPECT_THAT(why(build_qwen3(wide, {.bucket = kBucket})), testing::HasSubstr("the CPU backend has no kernel for"));
  Graph merged;
  const Value x = merged.add_leaf(ops::Input{"x"}, {DType::f32, {4, 8}, Plain{}}, "x");
  const Value sum = merged.add(ops::Add{}, {x, x}, "sum");
  merged.set_outputs({merged.add(ops::Reshape{{8, 4}}, {sum}, "rows.merged")});
  EXPECT_THAT(why(merged), testing::HasSubstr("rows.merged: reshape makes [8,4] in a graph whose steps have 4 rows"));
}

TEST(Lowering, KnowsTheMostRowsOfAStep) {
  const Selection s =
      select_kernels(build_qwen3(cajal::test::small_config(false), {.bucket = kBucket}), detect_isa(), 1);
  EXPECT_EQ(s.max_rows.num_tokens, kBucket.num_tokens);
  EXPECT_EQ(s.max_rows.num_logits, kBucket.num_logits);
}

}  // namespace
}  // namespace cajal::cpu
