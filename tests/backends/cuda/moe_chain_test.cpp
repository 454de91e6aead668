// Layers with experts in one launch after attention, against the same layers launch by launch, bit for bit.
#include <algorithm>

#include "models/qwen3.h"
#include "on_device.h"

namespace cajal::cuda::test {
namespace {

struct Case {
  const char* name;
  std::int64_t hidden, inner;
  int experts, top_k, heads, layers;
  bool norm_topk_prob = true;
};

constexpr std::int64_t kSeqs = 8, kMaxBlocks = 4, kLaunched = 8;  // rows of a bucket that goes launch by launch
constexpr std::int64_t kVocabulary = 256;

// Outputs: logits, then each layer's chosen experts.
Graph moe_graph(const Case& c, std::int64_t rows, bool choices) {
  Qwen3Config config;
  config.model_type = "qwen3_moe";
  config.vocab_size = kVocabulary, config.hidden_size = c.hidden, config.intermediate_size = 256;
  config.num_hidden_layers = c.layers, config.num_attention_heads = c.heads, config.num_key_value_heads = 1;
  config.head_dim = 128, config.max_position_embeddings = 1024;
  config.num_experts = c.experts, config.num_experts_per_tok = c.top_k, config.moe_intermediate_size = c.inner;
  config.norm_topk_prob = c.norm_topk_prob;
  config.sliding_window.assign(static_cast<std::size_t>(c.layers), 0);
  config.sparse_layer.assign(static_cast<std::size_t>(c.layers), true);
  return build_qwen3(config, {.bucket = {rows, kSeqs, kMaxBlocks, rows}, .outputs = {.chosen_experts = choices}});
}

// Row r is the position-th token of sequence r.
Inputs inputs(std::int64_t rows, std::int32_t position) {
  std::vector<std::int32_t> tables(kSeqs * kMaxBlocks), slots, ids, seqs, positions, wanted;
  for (std::size_t i = 0; i < tables.size(); ++i) tables[i] = static_cast<std::int32_t>(i) + 1;
  for (std::int32_t r = 0; r < rows; ++r) {
    seqs.push_back(r), positions.push_back(position), wanted.push_back(r);
    ids.push_back((r * 37 + position * 11) % static_cast<std::int32_t>(kVocabulary));
    slots.push_back(tables[static_cast<std::size_t>(r * kMaxBlocks)] * 64 + position);
  }
  return {{"input_ids", ids},    {"positions", positions}, {"slot_mapping", slots},
          {"seq_indices", seqs}, {"block_tables", tables}, {"logits_indices", wanted}};
}

class MoeChainOnDevice : public OnDevice, public testing::WithParamInterface<Case> {
 protected:
  static bool chained(const Executable& e) {
    const std::vector<std::string> names = e.kernel_names();
    return std::ranges::count(names, "moe_chain") > 0;
  }
};

TEST_P(MoeChainOnDevice, GivesTheBitsOfManyLaunches) {
  const Case& c = GetParam();
  Ran many(device(), moe_graph(c, kLaunched, false));
  if (test_target().empty()) ASSERT_FALSE(chained(many.executable()));
  std::vector<Bytes> want;
  for (std::int32_t position = 0; position < 3; ++position)
    want.push_back(many.run(inputs(kLaunched, position), {kLaunched, kLaunched}));
  for (const std::int64_t bucket : {1, 2, 3, 4}) {
    Ran one(device(), moe_graph(c, bucket, false));
    if (test_target().empty()) EXPECT_TRUE(chained(one.executable())) << "bucket " << bucket;
    for (std::int32_t position = 0; position < 3; ++position) {  // several steps: what one leaves behind the next finds
      const Bytes got = one.run(inputs(bucket, position), {bucket, bucket});
      EXPECT_EQ(got, first_bytes(want[static_cast<std::size_t>(position)], got.size()))
          << "bucket " << bucket << ", position " << position;
    }
  }
}

TEST_P(MoeChainOnDevice, DoesOnlyTheRowsThatAStepHas) {
  const Case& c = GetParam();
  Ran one(device(), moe_graph(c, 1, false)), four(device(), moe_graph(c, 4, false));
  for (std::int32_t position = 0; position < 2; ++position)
    EXPECT_EQ(four.run(inputs(1, position), {1, 1}), one.run(inputs(1, position), {1, 1})) << position;
}

TEST_P(MoeChainOnDevice, TellsWhichExpertsWereChosen) {
  const Case& c = GetParam();
  Ran many(device(), moe_graph(c, kLaunched, true));
  many.run(inputs(kLaunched, 0), {kLaunched, kLaunched});
  for (const std::int64_t rows : {1, 2}) {  // one row's experts are chosen by other warps
    Ran one(device(), moe_graph(c, rows, true));
    one.run(inputs(rows, 0), {rows, rows});
    for (int layer = 0; layer < c.layers; ++layer) {
      const auto output = [&](Ran& ran) {
        const auto bytes = ran.executable().output(static_cast<std::size_t>(layer) + 1);
        return Bytes(bytes.begin(), bytes.begin() + rows * c.top_k * 4);
      };
      EXPECT_EQ(output(one), output(many)) << "rows " << rows << ", layer " << layer;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, MoeChainOnDevice,
                         testing::Values(Case{"eight_of_16", 2048, 96, 16, 8, 4, 3},
                                         Case{"two_of_8_as_they_are", 2048, 64, 8, 2, 2, 2, false},
                                         Case{"one_of_8_wide", 2304, 160, 8, 1, 3, 1}),
                         [](const auto& i) { return std::string(i.param.name); });

}  // namespace
}  // namespace cajal::cuda::test
