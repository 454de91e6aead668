// Whole models on several ranks, which are threads here, against the same model on one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "backends/backend.h"
#include "backends/cpu/cpu_target.h"
#include "backends/cpu/program_fixture.h"
#include "compiler/model_graphs.h"
#include "compiler/quantize_weights.h"

namespace cajal::cpu {
namespace {

using test::Outputs;
using test::Program;

constexpr Bucket kBucket{.num_tokens = 12, .num_seqs = 3, .max_blocks_per_seq = 2, .num_logits = 3};

struct Case {
  Qwen3Config config;
  DType dtype = DType::f32;
  bool tied = false, prepared = true;
  QuantizationRecipe quantization = {};
};

Graph graph_of(const Case& c, int tp) {
  Qwen3GraphOptions options{.bucket = kBucket, .dtype = c.dtype, .parallel = {tp, 1}};
  if (c.tied) options.lm_head_tensor = options.embedding_tensor;
  if (const std::int64_t group = c.quantization.group_size; !c.quantization.none())
    options.groups = {group, group, group};
  const Graph built = quantize_weights(build_qwen3(c.config, options), c.quantization);
  return c.prepared ? make_cpu_target(detect_isa())->prepare(built) : built;
}

// body(rank's groups) in a thread each.
template <class Body>
void on_ranks(std::vector<RankGroups>& ranks, const Body& body) {
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks.size(); ++r) threads.emplace_back([&, r] { body(r, ranks[r]); });
  for (std::thread& thread : threads) thread.join();
}

// Logits of every step; the same on all ranks.
Outputs run(const Case& c, std::vector<RankGroups>& ranks) {
  const auto steps = test::random_steps(kBucket, c.config.vocab_size, Program::kBlocks, 7);
  if (ranks.size() == 1) return Program(graph_of(c, 1), detect_isa(), 1).run(steps);
  const Graph graph = graph_of(c, static_cast<int>(ranks.size()));
  std::vector<Outputs> all(ranks.size());
  on_ranks(ranks,
           [&](std::size_t r, RankGroups& groups) { all[r] = Program(graph, detect_isa(), 1, &groups).run(steps); });
  for (const Outputs& of_rank : all) EXPECT_EQ(of_rank, all[0]);
  return all[0];
}
Outputs run(const Case& c, int tp) {
  auto ranks = make_thread_rank_groups({.tensor = tp});
  return run(c, ranks);
}

std::vector<float> floats(const Outputs& outputs) {
  std::vector<float> values;
  for (const auto& bytes : outputs) {
    const std::size_t at = values.size();
    values.resize(at + bytes.size() / sizeof(float));
    std::memcpy(values.data() + at, bytes.data(), bytes.size());
  }
  return values;
}

// The largest difference, in units of the largest value; infinite where a number is none.
float distance(const Outputs& a, const Outputs& b) {
  const auto x = floats(a), y = floats(b);
  if (x.size() != y.size() || x.empty()) return INFINITY;
  float most = 0, largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return INFINITY;
    most = std::max(most, std::fabs(x[i] - y[i])), largest = std::max(largest, std::fabs(x[i]));
  }
  return most / largest;
}
constexpr float kRounding = 2e-5f;

// A model of which every part can be cut into eight.
Qwen3Config divisible() {
  Qwen3Config c = cajal::test::small_config(false);
  c.num_attention_heads = 16;
  c.num_key_value_heads = 2;
  c.intermediate_size = 64;
  return c;
}

class OnRanks : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, OnRanks, testing::Values(DType::f32, DType::bf16),
                         [](const auto& type) { return std::string(to_string(type.param)); });

TEST_P(OnRanks, AModelGivesTheSameBitsWhereEightPartsAreSharedEvenly) {
  for (const bool tied : {false, true})
    for (const bool bias : {false, true}) {
      Case c{.config = divisible(), .dtype = GetParam(), .tied = tied, .prepared = bias};
      c.config.attention_bias = bias;
      const Outputs one = run(c, 1);
      for (const int tp : {2, 4, 8}) EXPECT_EQ(run(c, tp), one) << "tp " << tp << (tied ? " tied" : "");
    }
}

TEST_P(OnRanks, ATableCutByColumnsGivesTheSameBits) {
  Case c{.config = divisible(), .dtype = GetParam()};
  c.config.hidden_size = 512;
  EXPECT_EQ(run(c, 4), run(c, 1));
}

// Groups of columns are rounded together: ranks hold whole ones and so round as one rank does, also where a degree does not
// divide their number (576 are four and a half of 128, 800 are 25 of 32), and where the last is not full.
TEST(OnRanks, QuantizedWeightsGiveTheSameBitsWhateverTheNumberOfGroups) {
  struct Shape {
    int group_size, features;
  };
  for (const Shape shape : {Shape{32, 512}, Shape{32, 800}, Shape{32, 80}, Shape{128, 576}, Shape{128, 64}})
    for (const bool experts : {false, true})
      for (const char* kind : {"int8", "int4"}) {
        Case c{.config = cajal::test::small_config(experts)};
        c.config.num_hidden_layers = 1;
        c.config.num_attention_heads = 8;
        c.config.num_key_value_heads = 2;
        c.config.head_dim = shape.group_size;
        c.config.intermediate_size = c.config.moe_intermediate_size = shape.features;
        c.quantization = quantization_recipe(kind, shape.group_size);
        const auto what = detail::join(kind, " by ", shape.group_size, " of ", shape.features, experts ? " moe" : "");
        const Outputs one = run(c, 1);
        for (const int tp : {2, 4}) EXPECT_EQ(run(c, tp), one) << what << ", tp " << tp;
        EXPECT_LT(distance(one, run(c, 3)), kRounding) << what;
      }
}

TEST(OnRanks, LosslessWeightsGiveTheBitsOfOthers) {
  if (!(detect_isa() & kAvx512Bf16)) GTEST_SKIP() << "no AVX512-BF16 here";
  for (const bool experts : {false, true}) {
    Case c{.config = cajal::test::small_config(experts), .dtype = DType::bf16, .prepared = true};
    c.config.num_hidden_layers = 1;
    for (const int tp : {1, 2, 3}) {
      c.quantization = {};
      const Outputs want = run(c, tp);
      c.quantization = quantization_recipe("lossless");
      c.quantization.group_size = 1;  // ranks may cut anywhere
      EXPECT_EQ(run(c, tp), want) << "tp " << tp << (experts ? " moe" : "");
    }
  }
}

TEST(OnRanks, AModelThatDegreesDoNotDivideGivesTheSameNumbers) {
  for (const bool tied : {false, true}) {
    Case c{.config = cajal::test::small_config(false), .tied = tied};
    c.config.num_attention_heads = 6;
    c.config.intermediate_size = 50;
    c.config.vocab_size = 97;
    c.config.attention_bias = tied;
    const Outputs one = run(c, 1);
    for (const int tp : {2, 3, 5, 7}) EXPECT_LT(distance(one, run(c, tp)), kRounding) << "tp " << tp;
  }
}

// Some of the numbers of heads up to 64, kv heads that divide them, and degrees up to 16. That every head has its place for
// all of them is in tests/models/head_shares_test.cpp.
TEST(OnRanks, AttentionIsThatOfOneRankForAnyHeadsAndDegree) {
  unsigned tried = 0;
  for (int tp = 2; tp <= 16; ++tp) {
    auto ranks = make_thread_rank_groups({.tensor = tp});
    auto alone = make_thread_rank_groups({});
    for (int heads = 1; heads <= 64; ++heads)
      for (int kv_heads = 1; kv_heads <= heads; ++kv_heads) {
        if (heads % kv_heads != 0 || ++tried % 17 != 0) continue;
        Case c{.config = cajal::test::small_config(false)};
        c.config.num_hidden_layers = 1;
        c.config.num_attention_heads = heads;
        c.config.num_key_value_heads = kv_heads;
        c.config.head_dim = 4;
        EXPECT_LT(distance(run(c, alone), run(c, ranks)), kRounding)
            << heads << " heads, " << kv_heads << " kv heads, tp " << tp;
      }
  }
}

// One matrix through an op, on every rank: rank r's has 100 * r + 10 * row + column.
std::vector<std::vector<float>> through(const Op& op, std::int64_t rows, std::int64_t columns, int ranks) {
  Graph graph;
  const Value x = graph.add_leaf(ops::Input{"x"}, {DType::f32, {rows, columns}, Plain{}}, "x");
  graph.set_outputs({graph.add(op, {x}, "y")});
  auto groups = make_thread_rank_groups({.tensor = ranks});
  std::vector<std::vector<float>> results(groups.size());
  on_ranks(groups, [&](std::size_t r, RankGroups& mine) {
    const auto backend = make_backend("cpu", {.num_threads = 1, .ranks = &mine});
    const auto executable = backend->compile(graph);
    const auto arena = backend->allocate(executable->plan().arena_bytes);
    const auto none = [](const std::string&) -> Buffer& { throw std::logic_error("no such buffer"); };
    executable->bind({none, none, arena.get()});
    std::vector<float> in;
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t k = 0; k < columns; ++k)
        in.push_back(static_cast<float>(100 * static_cast<int>(r) + 10 * i + k));
    std::memcpy(executable->input("x").data(), in.data(), in.size() * sizeof(float));
    executable->wait(executable->launch({rows, 0}));
    results[r] = floats({{executable->output(0).begin(), executable->output(0).end()}});
  });
  return results;
}

TEST(Collectives, MoveAndAddColumns) {
  using testing::ElementsAre;
  const auto gathered = through(ops::AllGather{1, 2}, 2, 2, 2);
  EXPECT_THAT(gathered[0], ElementsAre(0, 1, 100, 101, 10, 11, 110, 111));
  EXPECT_EQ(gathered[1], gathered[0]);
  EXPECT_THAT(through(ops::AllGather{1, 3}, 1, 1, 3)[2], ElementsAre(0, 100, 200));
  EXPECT_THAT(through(ops::AllReduce{}, 2, 2, 3)[1], ElementsAre(300, 303, 330, 333));
  const auto scattered = through(ops::ReduceScatter{1, 2}, 2, 4, 2);
  EXPECT_THAT(scattered[0], ElementsAre(100, 102, 120, 122));
  EXPECT_THAT(scattered[1], ElementsAre(104, 106, 124, 126));
  const auto exchanged = through(ops::AllToAll{2}, 2, 4, 2);
  EXPECT_THAT(exchanged[0], ElementsAre(0, 1, 100, 101, 10, 11, 110, 111));
  EXPECT_THAT(exchanged[1], ElementsAre(2, 3, 102, 103, 12, 13, 112, 113));
}

TEST(Collectives, AreRefusedWhereTheRanksAreNotThoseOfTheGraph) {
  const auto why = [](const RankGroups* ranks, int tp) {
    try {
      Case c{.config = divisible()};
      make_backend("cpu", {.num_threads = 1, .ranks = ranks})->compile(graph_of(c, tp));
      return std::string();
    } catch (const Error& e) {
      return e.message();
    }
  };
  auto two = make_thread_rank_groups({.tensor = 2});
  EXPECT_EQ(why(nullptr, 1), "");
  EXPECT_EQ(why(two.data(), 2), "");
  EXPECT_THAT(why(nullptr, 2), testing::HasSubstr("embedding needs several ranks, and there is one"));
  EXPECT_THAT(why(two.data(), 4), testing::HasSubstr("lm_head: all_gather needs 4 ranks, and there are 2"));
}

}  // namespace
}  // namespace cajal::cpu
