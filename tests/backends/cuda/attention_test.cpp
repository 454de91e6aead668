// Attention against the CPU's, and a row's bits whatever the bucket and its neighbours.
#include "on_device.h"

namespace cajal::cuda::test {
namespace {

constexpr std::int64_t kBlockSize = 64, kSeqs = 6, kMaxBlocks = 12;

struct Case {
  std::int64_t num_heads, num_kv_heads, head_dim;
  std::int64_t sliding_window = 0;
};

Graph attention_graph(const Case& c, std::int64_t rows, DType dtype) {
  Graph g;
  const auto ints = [&](const char* name, Shape shape) {
    return g.add_leaf(ops::Input{name}, {DType::i32, shape, Plain{}}, name);
  };
  const auto cache = [&](const char* name) {
    return g.add_leaf(ops::State{name}, {dtype, {Shape::kDynamic, c.num_kv_heads, kBlockSize, c.head_dim}, Plain{}},
                      name);
  };
  const Value q = g.add_leaf(ops::Input{"q"}, {dtype, {rows, c.num_heads, c.head_dim}, Plain{}}, "q");
  const ops::PagedAttention op{1.0f / std::sqrt(static_cast<float>(c.head_dim)), c.sliding_window};
  g.set_outputs({g.add(op,
                       {q, cache("k"), cache("v"), ints("block_tables", {kSeqs, kMaxBlocks}),
                        ints("seq_indices", {rows}), ints("positions", {rows})},
                       "attention")});
  return g;
}

// Rows of several sequences: a piece of a prompt, single rows, a piece that begins far into its sequence.
struct Step {
  std::vector<std::int32_t> seqs, positions, tables;

  Step() {
    for (std::int32_t i = 0; i < kSeqs * kMaxBlocks; ++i)
      tables.push_back(1 + i * 7 % (static_cast<std::int32_t>(kBlocks) - 1));
    rows(0, 0, 90), rows(1, 700, 1), rows(2, 63, 1), rows(3, 255, 70), rows(4, 0, 1), rows(5, 500, 37);
  }
  void rows(std::int32_t seq, std::int32_t first, std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i) seqs.push_back(seq), positions.push_back(first + i);
  }
  std::int64_t size() const { return static_cast<std::int64_t>(seqs.size()); }
};

class AttentionOnDevice : public OnDevice, public testing::WithParamInterface<Case> {};

Inputs inputs(const Step& step, std::size_t first, std::size_t count) {
  const auto part = [&](const std::vector<std::int32_t>& v) {
    const auto begin = v.begin() + static_cast<std::ptrdiff_t>(first);
    return std::vector<std::int32_t>(begin, begin + static_cast<std::ptrdiff_t>(count));
  };
  return {{"seq_indices", part(step.seqs)}, {"positions", part(step.positions)}, {"block_tables", step.tables}};
}

TEST_P(AttentionOnDevice, IsTheCpus) {
  const Step step;
  for (const DType dtype : {DType::bf16, DType::f32}) {
    const Graph graph = attention_graph(GetParam(), step.size(), dtype);
    const Inputs in = inputs(step, 0, step.seqs.size());
    const Bytes want = Ran(host(), graph).run(in, {step.size(), 0});
    Ran ran(device(), graph);
    EXPECT_LT(distance(ran.run(in, {step.size(), 0}), want, dtype), dtype == DType::bf16 ? 4e-3 : 1e-5)
        << ran.executable().kernel_names().back();
  }
}

// The first rows of a step in smaller buckets: the same q by name, so the same rows.
TEST_P(AttentionOnDevice, GivesARowTheSameBitsInEveryBucket) {
  const Step step;
  const auto row_bytes = static_cast<std::size_t>(GetParam().num_heads * GetParam().head_dim) * 2;
  const Bytes all = Ran(device(), attention_graph(GetParam(), step.size(), DType::bf16))
                        .run(inputs(step, 0, step.seqs.size()), {step.size(), 0});
  for (const std::int64_t bucket : {1, 7, 16, 17, 40, 64, 95, 128, 170}) {
    const auto rows = static_cast<std::size_t>(bucket);
    EXPECT_EQ(Ran(device(), attention_graph(GetParam(), bucket, DType::bf16)).run(inputs(step, 0, rows), {bucket, 0}),
              first_bytes(all, rows * row_bytes))
        << bucket;
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, AttentionOnDevice,
                         testing::Values(Case{4, 4, 64}, Case{16, 8, 128}, Case{8, 2, 128}, Case{10, 2, 128},
                                         Case{8, 1, 128}, Case{16, 1, 64}, Case{40, 1, 64}, Case{6, 2, 80},
                                         Case{3, 1, 34}, Case{8, 2, 128, 100}, Case{4, 2, 64, 1}),
                         [](const auto& i) {
                           return detail::join(i.param.num_heads, "_of_", i.param.num_kv_heads, "_by_",
                                               i.param.head_dim, "_window_", i.param.sliding_window);
                         });

}  // namespace
}  // namespace cajal::cuda::test
