// The mixture of experts: against the CPU's, and a row's bits whatever the bucket, its neighbours and their experts.
#include <set>

#include "on_device.h"

namespace cajal::cuda::test {
namespace {

struct Case {
  std::int64_t hidden, inner, experts, top_k;
  int sum_parts = 1;
};

Value weight(Graph& g, const char* name, Shape shape, DType dtype) {
  return g.add_leaf(ops::Parameter{{{name, shape, {}}}}, {dtype, shape, Plain{}}, name);
}

Graph experts_graph(const Case& c, std::int64_t rows, DType dtype) {
  Graph g;
  const Value x = g.add_leaf(ops::Input{"x"}, {dtype, {rows, c.hidden}, Plain{}}, "x");
  const Value weights = g.add_leaf(ops::Input{"weights"}, {dtype, {rows, c.top_k}, Plain{}}, "weights");
  const Value ids = g.add_leaf(ops::Input{"ids"}, {DType::i32, {rows, c.top_k}, Plain{}}, "ids");
  g.set_outputs({g.add(ops::MoeExperts{c.sum_parts},
                       {x, weights, ids, weight(g, "gate_up", {c.experts, 2 * c.inner, c.hidden}, dtype),
                        weight(g, "down", {c.experts, c.hidden, c.inner}, dtype)},
                       "experts")});
  return g;
}

// The router's product and choice, and the experts after them, as models have them.
Graph block_graph(const Case& c, std::int64_t rows, DType dtype) {
  Graph g;
  const Value x = g.add_leaf(ops::Input{"x"}, {dtype, {rows, c.hidden}, Plain{}}, "x");
  const Value logits = g.add(ops::Linear{}, {x, weight(g, "router", {c.experts, c.hidden}, dtype)}, "router_linear");
  const auto chosen = g.add_multi(ops::Router{static_cast<int>(c.top_k), true}, {logits}, "router_choice");
  const Value y = g.add(ops::MoeExperts{c.sum_parts},
                        {x, chosen[0], chosen[1], weight(g, "gate_up", {c.experts, 2 * c.inner, c.hidden}, dtype),
                         weight(g, "down", {c.experts, c.hidden, c.inner}, dtype)},
                        "experts");
  g.set_outputs({y, chosen[0], chosen[1]});
  return g;
}

using Ids = std::vector<std::int32_t>;

// Different experts for a row, all as likely; or most rows the same few, and many experts none.
Ids choices(const Case& c, std::int64_t rows, bool skewed) {
  std::mt19937 random(7);
  Ids ids;
  for (std::int64_t row = 0; row < rows; ++row) {
    Ids all(static_cast<std::size_t>(c.experts));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
    std::shuffle(all.begin(), all.end(), random);
    if (skewed && row % 5 != 0)
      for (std::size_t i = 0; i + 1 < all.size(); ++i) all[i] = static_cast<std::int32_t>((i * 2 + 1) % all.size());
    ids.insert(ids.end(), all.begin(), all.begin() + static_cast<std::ptrdiff_t>(c.top_k));
  }
  return ids;
}

class MoeOnDevice : public OnDevice, public testing::WithParamInterface<Case> {};

// Buckets on both sides of every change of way, with steps that fill them and steps that do not.
constexpr std::int64_t kBuckets[] = {1, 2, 4, 5, 7, 16, 17, 32, 33, 64, 65, 130, 300, 700};
constexpr std::int64_t kMost = kBuckets[std::size(kBuckets) - 1];

std::size_t row_bytes(const Case& c, DType dtype) { return static_cast<std::size_t>(c.hidden) * size_of(dtype); }

TEST_P(MoeOnDevice, GivesARowTheSameBitsInEveryBucket) {
  const Case& c = GetParam();
  for (const bool skewed : {false, true}) {
    const Inputs inputs{{"ids", choices(c, kMost, skewed)}};
    const Bytes all = Ran(device(), experts_graph(c, kMost, DType::bf16)).run(inputs, {kMost, 0});
    for (const std::int64_t bucket : kBuckets) {
      Ran some(device(), experts_graph(c, bucket, DType::bf16));
      for (const std::int64_t rows : {bucket, (bucket + 1) / 2})
        EXPECT_EQ(some.run(inputs, {rows, 0}),
                  first_bytes(all, row_bytes(c, DType::bf16) * static_cast<std::size_t>(rows)))
            << rows << " rows in a bucket of " << bucket << ", kernel " << some.executable().kernel_names().back();
    }
  }
}

TEST_P(MoeOnDevice, GivesARowTheSameBitsWhateverExpertsOthersChoose) {
  const Case& c = GetParam();
  for (const std::int64_t rows : {4, 16, 64, 300, 700}) {
    Ids ids = choices(c, rows, false);
    Ran ran(device(), experts_graph(c, rows, DType::bf16));
    const Bytes before = ran.run({{"ids", ids}}, {rows, 0});
    const auto k = static_cast<std::ptrdiff_t>(c.top_k);
    for (std::int64_t row = 1; row < rows; ++row)  // as the first
      std::copy(ids.begin(), ids.begin() + k, ids.begin() + row * k);
    const Bytes after = ran.run({{"ids", ids}}, {rows, 0});
    EXPECT_EQ(first_bytes(after, row_bytes(c, DType::bf16)), first_bytes(before, row_bytes(c, DType::bf16)))
        << rows << " rows, kernel " << ran.executable().kernel_names().back();
  }
}

TEST_P(MoeOnDevice, IsTheCpus) {
  const Case& c = GetParam();
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const std::int64_t rows : {1, 12, 80, 500}) {
      const Graph graph = experts_graph(c, rows, dtype);
      const Inputs inputs{{"ids", choices(c, rows, true)}};
      const Bytes want = Ran(host(), graph).run(inputs, {rows, 0});
      Ran ran(device(), graph);
      EXPECT_LT(distance(ran.run(inputs, {rows, 0}), want, dtype), dtype == DType::bf16 ? 6e-3 : 1e-5)
          << rows << " rows, kernel " << ran.executable().kernel_names().back();
    }
}

TEST_P(MoeOnDevice, RoutesARowTheSameInEveryBucket) {
  const Case& c = GetParam();
  Ran largest(device(), block_graph(c, kMost, DType::bf16));
  const auto k = static_cast<std::size_t>(c.top_k);
  const Bytes y = largest.run({}, {kMost, 0}, 0), weights = largest.run({}, {kMost, 0}, 1),
              ids = largest.run({}, {kMost, 0}, 2);
  std::set<std::string> kernels;
  for (const std::int64_t bucket : kBuckets) {
    Ran some(device(), block_graph(c, bucket, DType::bf16));
    for (const std::string& name : some.executable().kernel_names()) kernels.insert(name);
    for (const std::int64_t rows : {bucket, (bucket + 1) / 2}) {
      const auto count = static_cast<std::size_t>(rows);
      EXPECT_EQ(some.run({}, {rows, 0}, 2), first_bytes(ids, k * 4 * count)) << rows << " of " << bucket;
      EXPECT_EQ(some.run({}, {rows, 0}, 1), first_bytes(weights, k * 2 * count)) << rows << " of " << bucket;
      EXPECT_EQ(some.run({}, {rows, 0}, 0), first_bytes(y, row_bytes(c, DType::bf16) * count))
          << rows << " of " << bucket;
    }
  }
  EXPECT_TRUE(kernels.contains("router"));  // the largest buckets
}

INSTANTIATE_TEST_SUITE_P(Shapes, MoeOnDevice,
                         testing::Values(Case{256, 64, 128, 8}, Case{512, 96, 16, 8}, Case{128, 96, 160, 2},
                                         Case{64, 64, 8, 8}, Case{256, 128, 8, 2, 8}, Case{80, 40, 5, 3},
                                         Case{128, 64, 3, 1}),
                         [](const auto& i) {
                           return detail::join(i.param.hidden, "x", i.param.inner, "_", i.param.top_k, "_of_",
                                               i.param.experts, "_parts_", i.param.sum_parts);
                         });

}  // namespace
}  // namespace cajal::cuda::test
