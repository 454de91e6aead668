// Steps with one launch between attentions against the same steps launch by launch, bit for bit, caches included.
#include <set>

#include "backends/cuda/decode_chain.h"
#include "backends/target.h"

#include "models/qwen3.h"
#include "on_device.h"

namespace cajal::cuda::test {
namespace {

struct Case {
  const char* name;
  std::int64_t hidden, intermediate, vocabulary;
  int heads, kv_heads, head_dim;
  std::int64_t sliding_window = 0;  // of every other layer
  bool bias = false;
};

constexpr std::int64_t kSeqs = 16, kMaxBlocks = 12;
constexpr int kLayers = 4;  // more than there are sets of memory in which launches pass activations

Graph decode_graph(const Case& c, std::int64_t rows) {
  Qwen3Config config;
  config.model_type = "qwen3";
  config.vocab_size = c.vocabulary, config.hidden_size = c.hidden, config.intermediate_size = c.intermediate;
  config.num_hidden_layers = kLayers, config.num_attention_heads = c.heads, config.num_key_value_heads = c.kv_heads;
  config.head_dim = c.head_dim, config.max_position_embeddings = 4096, config.attention_bias = c.bias;
  config.sliding_window = {0, c.sliding_window, 0, c.sliding_window};
  config.sparse_layer.assign(kLayers, false);
  return build_qwen3(config, {.bucket = {rows, kSeqs, kMaxBlocks, rows}});
}

// Which sequence and position each row has.
struct Step {
  std::vector<std::int32_t> seqs, positions;
  void add(std::int32_t seq, std::int32_t position) { seqs.push_back(seq), positions.push_back(position); }
};

// Blocks of different sequences never meet, but for that the cache is small: a sequence has those that it needs.
Inputs inputs(const Step& step) {
  std::vector<std::int32_t> tables(kSeqs * kMaxBlocks), slots, ids, wanted;
  std::int32_t next = 1;
  for (std::size_t i = 0; i < step.seqs.size(); ++i) {
    const std::int32_t seq = step.seqs[i], position = step.positions[i];
    for (std::int32_t b = 0; b <= position / 64; ++b) {
      std::int32_t& block = tables[static_cast<std::size_t>(seq * kMaxBlocks + b)];
      if (block == 0) block = next++;
    }
    slots.push_back(tables[static_cast<std::size_t>(seq * kMaxBlocks + position / 64)] * 64 + position % 64);
    ids.push_back(static_cast<std::int32_t>(i * 37 % 100));
    wanted.push_back(static_cast<std::int32_t>(step.seqs.size() - 1 - i));
  }
  EXPECT_LE(next, kBlocks);
  return {{"input_ids", ids},         {"positions", step.positions}, {"slot_mapping", slots},
          {"seq_indices", step.seqs}, {"block_tables", tables},      {"logits_indices", wanted}};
}

Graph planned(const Graph& graph) {
  const auto target = make_target("sm_90");
  return target->plan(target->prepare(graph), 1).graph;
}
constexpr Case kSmall{"small", 512, 1024, 1024, 8, 4, 128};

TEST(DecodeChain, HasALaunchBeforeTheFirstAttentionAndOneBehindEach) {
  const Graph graph = planned(decode_graph(kSmall, 8));
  const auto chain = find_decode_chain(graph);
  ASSERT_TRUE(chain);
  EXPECT_EQ(chain->launches.size(), kLayers + 1);
  std::set<std::uint32_t> nodes;
  for (const auto& launch : chain->launches)
    for (const std::uint32_t node : launch) {
      EXPECT_TRUE(nodes.insert(node).second) << "node " << node << " in two launches";
      EXPECT_FALSE(std::holds_alternative<ops::PagedAttention>(graph.node(node).op));
    }
  for (std::uint32_t n = 0; n < graph.nodes().size(); ++n) {
    const Op& op = graph.node(n).op;
    if (std::holds_alternative<ops::Linear>(op) || std::holds_alternative<ops::RmsNorm>(op))
      EXPECT_TRUE(nodes.count(n));
  }
}

TEST(DecodeChain, LeavesAloneWhatItsKernelDoesNotTake) {
  EXPECT_TRUE(find_decode_chain(planned(decode_graph(kSmall, 16))));
  EXPECT_FALSE(find_decode_chain(planned(decode_graph(kSmall, 17)))) << "rows";
  Case odd = kSmall;
  odd.vocabulary = 1000;
  EXPECT_FALSE(find_decode_chain(planned(decode_graph(odd, 1)))) << "outputs that are no whole tiles";
  Case wide = kSmall;
  wide.hidden = 5120;
  EXPECT_TRUE(find_decode_chain(planned(decode_graph(wide, 8))));
  EXPECT_FALSE(find_decode_chain(planned(decode_graph(wide, 16))))
      << "rows that are normed and leave the ring too little";
}

class DecodeOnDevice : public OnDevice, public testing::WithParamInterface<Case> {
 protected:
  void SetUp() override {
    OnDevice::SetUp();
    if (!IsSkipped() && device().target() != "sm_90")
      GTEST_SKIP() << "chain is for sm_90, not for " << device().target();
  }
  static Backend& by_launches() {
    static const std::unique_ptr<Backend> backend = make_backend("cuda", {.num_threads = 4, .decode_chain = false});
    return *backend;
  }
  static bool chained(const Executable& e) { return e.kernel_names().back() == "chain"; }

  // The same steps on both, one after the other on the same caches.
  static void expect_same(std::int64_t bucket, std::span<const Step> steps) {
    const Graph graph = decode_graph(GetParam(), bucket);
    Ran one(device(), graph), many(by_launches(), graph);
    ASSERT_TRUE(chained(one.executable()));
    ASSERT_FALSE(chained(many.executable()));
    for (std::size_t s = 0; s < steps.size(); ++s) {
      const auto rows = static_cast<std::int64_t>(steps[s].seqs.size());
      const Inputs in = inputs(steps[s]);
      EXPECT_EQ(one.run(in, {rows, rows}), many.run(in, {rows, rows})) << "bucket " << bucket << ", step " << s;
    }
  }
};

TEST_P(DecodeOnDevice, GivesTheBitsOfManyLaunches) {
  for (const std::int64_t bucket : {1, 3, 8, 16}) {
    std::vector<Step> steps(4);
    for (std::int32_t r = 0; r < bucket; ++r) steps[0].add(r, r == 0 ? 600 : r * 7 % 90);  // mixed lengths
    for (std::int32_t r = 0; r < bucket; ++r) steps[1].add(r == 0 ? 1 : 2, 250 + r);       // a piece of a prompt
    for (std::int32_t r = 0; r < (bucket + 1) / 2; ++r) steps[2].add(r / 3, 60 + r % 3);   // guesses, half a bucket
    for (std::int32_t r = 0; r < bucket; ++r) steps[3].add(0, r);                          // from the beginning
    expect_same(bucket, steps);
  }
}

TEST_P(DecodeOnDevice, GivesTheSameBitsWhenItsOperationsAreTimedOneByOne) {
  for (const std::int64_t rows : {1, 3}) {
    const Graph graph = decode_graph(GetParam(), rows);
    Ran ran(device(), graph);
    Step step;
    for (std::int32_t r = 0; r < rows; ++r) step.add(r, 70 * r);
    const Bytes together = ran.run(inputs(step), {rows, rows});
    ran.executable().set_profiling(true);
    EXPECT_EQ(ran.run(inputs(step), {rows, rows}), together);
    std::set<std::uint32_t> timed;
    for (const NodeTiming& t : ran.executable().timings()) {
      const Op& op = ran.executable().graph().node(t.node).op;
      if (std::holds_alternative<ops::Linear>(op)) timed.insert(t.node);
      EXPECT_EQ(t.calls, 1U);
    }
    EXPECT_EQ(timed.size(), 4 * kLayers + 1) << "a layer's products and the head";
  }
}

TEST_P(DecodeOnDevice, RowsThatWantNoLogitsStillFillTheCache) {
  for (const std::int64_t rows : {1, 4}) {
    const Graph graph = decode_graph(GetParam(), rows);
    Ran one(device(), graph), many(by_launches(), graph);
    Step fill, next;
    for (std::int32_t r = 0; r < rows; ++r) fill.add(0, 66 + r - static_cast<std::int32_t>(rows));
    next.add(0, 66);
    one.run(inputs(fill), {rows, 0}), many.run(inputs(fill), {rows, 0});
    EXPECT_EQ(one.run(inputs(next), {1, 1}), many.run(inputs(next), {1, 1}));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, DecodeOnDevice,
                         testing::Values(Case{"sums_in_parts", 1024, 1536, 1024, 8, 4, 128},
                                         Case{"long_parts", 1024, 3072, 9000 / 16 * 16, 16, 8, 128},
                                         Case{"sums_in_one_part", 2048, 768, 512, 4, 2, 128},
                                         Case{"heads_of_64", 512, 1024, 1024, 8, 2, 64},
                                         Case{"windows", 512, 1024, 1024, 8, 4, 128, 100},
                                         Case{"one_kv_head", 512, 768, 512, 24, 1, 64, 1},
                                         Case{"biases", 256, 512, 1024, 4, 4, 64, 0, true}),
                         [](const auto& i) { return std::string(i.param.name); });

}  // namespace
}  // namespace cajal::cuda::test
