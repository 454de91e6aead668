// Norms, rotation, the cache's new rows and attention in one launch: what a step of few rows does, against a bucket of many
// rows, which takes a launch for each.
#include "on_device.h"

namespace cajal::cuda::test {
namespace {

constexpr std::int64_t kBlockSize = 64, kSeqs = 3, kMaxBlocks = 13, kManyRows = 20;

struct Case {
  std::int64_t num_heads, num_kv_heads, head_dim;
  std::int64_t sliding_window = 0;
};

Graph decode_graph(const Case& c, std::int64_t rows) {
  Graph g;
  const auto input = [&](const char* name, DType dtype, const Shape& shape) {
    return g.add_leaf(ops::Input{name}, {dtype, shape, Plain{}}, name);
  };
  const auto weight = [&](const char* name) {
    return g.add_leaf(ops::Parameter{{{name, {c.head_dim}, {}}}, 1, ""}, {DType::bf16, {c.head_dim}, Plain{}}, name);
  };
  const auto cache = [&](const char* name) {
    return g.add_leaf(ops::State{name},
                      {DType::bf16, {Shape::kDynamic, c.num_kv_heads, kBlockSize, c.head_dim}, Plain{}}, name);
  };
  const std::int64_t d = c.head_dim, q_columns = c.num_heads * d, kv_columns = c.num_kv_heads * d;
  const Value qkv = input("qkv", DType::bf16, {rows, q_columns + 2 * kv_columns});
  const Value table = input("table", DType::bf16, {rows, 2, d / 2});
  const Value tables = input("block_tables", DType::i32, {kSeqs, kMaxBlocks});
  const Value seqs = input("seq_indices", DType::i32, {rows}), positions = input("positions", DType::i32, {rows});
  const Value slots = input("slot_mapping", DType::i32, {rows});
  const Value q_norm = weight("q_norm"), k_norm = weight("k_norm"), k_cache = cache("k"), v_cache = cache("v");
  const auto heads = [&](std::int64_t begin, std::int64_t count, const char* name) {
    return g.add(ops::Reshape{{rows, count, d}}, {g.add(ops::Slice{begin, begin + count * d}, {qkv}, name)}, name);
  };
  const auto rotated = [&](Value x, Value norm) {
    return g.add(ops::Rope{}, {g.add(ops::RmsNorm{1e-6f}, {x, norm}, "norm"), table}, "rope");
  };
  const Value q = rotated(heads(0, c.num_heads, "q"), q_norm);
  const Value k = rotated(heads(q_columns, c.num_kv_heads, "k"), k_norm);
  const Value v = heads(q_columns + kv_columns, c.num_kv_heads, "v");
  const Value keys = g.add(ops::KvWrite{}, {k_cache, k, slots}, "keys");
  const Value values = g.add(ops::KvWrite{}, {v_cache, v, slots}, "values");
  const ops::PagedAttention op{1.0f / std::sqrt(static_cast<float>(d)), c.sliding_window};
  g.set_outputs({g.add(op, {q, keys, values, tables, seqs, positions}, "attention")});
  return g;
}

// One step after the other on the same cache, so that a row sees what earlier steps wrote.
struct Row {
  std::int32_t seq, position;
};
using Steps = std::vector<std::vector<Row>>;

std::int32_t block_of(std::int32_t seq, std::int32_t index) {
  return 1 + (seq * static_cast<std::int32_t>(kMaxBlocks) + index) * 7 % (static_cast<std::int32_t>(kBlocks) - 1);
}

Inputs inputs(const std::vector<Row>& rows) {
  Inputs in;
  for (std::int32_t s = 0; s < kSeqs; ++s)
    for (std::int32_t b = 0; b < kMaxBlocks; ++b) in["block_tables"].push_back(block_of(s, b));
  for (const Row& r : rows) {
    in["seq_indices"].push_back(r.seq), in["positions"].push_back(r.position);
    in["slot_mapping"].push_back(block_of(r.seq, r.position / 64) * 64 + r.position % 64);
  }
  return in;
}

// Single rows at the edges of blocks and pieces; several rows of a sequence that see each other; a chunk over an edge.
Steps some_steps() {
  Steps steps = {{{0, 0}},          {{0, 1}}, {{0, 62}}, {{0, 63}}, {{0, 64}}, {{0, 65}, {1, 255}, {2, 830}},
                 {{1, 256}, {2, 0}}};
  steps.push_back({{2, 831}, {0, 300}, {0, 301}, {0, 302}, {1, 700}});
  steps.emplace_back();
  for (std::int32_t i = 0; i < 16; ++i) steps.back().push_back({1, 760 + i});
  steps.push_back({{1, 776}, {2, 1}, {0, 303}});
  return steps;
}

class AttentionDecodeOnDevice : public OnDevice, public testing::WithParamInterface<Case> {
 protected:
  // Kernels for sm_90 are what a step takes there; any other target has one kernel for steps of every size.
  static std::string_view here(std::string_view kernel) {
    return device().target() == "sm_90" ? kernel : "attention_mma";
  }
  // What each step leaves.
  std::vector<Bytes> run(std::int64_t bucket, std::string_view kernel) {
    Ran ran(device(), decode_graph(GetParam(), bucket));
    EXPECT_EQ(ran.executable().kernel_names().back(), here(kernel));
    std::vector<Bytes> results;
    for (const auto& rows : some_steps())
      if (rows.size() <= static_cast<std::size_t>(bucket))
        results.push_back(ran.run(inputs(rows), {static_cast<std::int64_t>(rows.size()), 0}));
      else
        results.emplace_back();
    return results;
  }
};

TEST_P(AttentionDecodeOnDevice, GivesTheBitsOfALaunchForEachStepByStep) {
  const std::vector<Bytes> want = run(kManyRows, "attention_wgmma");
  const std::vector<Bytes> got = run(16, "attention_decode");
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got[i], want[i]) << "step " << i;
}

TEST_P(AttentionDecodeOnDevice, GivesTheSameBitsInSmallBuckets) {
  const Steps steps = some_steps();
  for (const std::int64_t bucket : {1, 3}) {
    Ran one(device(), decode_graph(GetParam(), bucket)), many(device(), decode_graph(GetParam(), kManyRows));
    for (const auto& rows : steps) {
      if (rows.size() > static_cast<std::size_t>(bucket)) continue;
      const StepRows count{static_cast<std::int64_t>(rows.size()), 0};
      EXPECT_EQ(one.run(inputs(rows), count), many.run(inputs(rows), count)) << bucket;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, AttentionDecodeOnDevice,
                         testing::Values(Case{4, 4, 64}, Case{16, 8, 128}, Case{32, 8, 128}, Case{10, 2, 128},
                                         Case{9, 1, 128}, Case{16, 1, 64}, Case{40, 1, 64}, Case{8, 2, 128, 100},
                                         Case{4, 2, 64, 1}),
                         [](const auto& i) {
                           return detail::join(i.param.num_heads, "_of_", i.param.num_kv_heads, "_by_",
                                               i.param.head_dim, "_window_", i.param.sliding_window);
                         });

}  // namespace
}  // namespace cajal::cuda::test
