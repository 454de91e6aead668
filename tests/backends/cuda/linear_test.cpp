// Matrix products: against sums in double, and a row's bits whatever the bucket.
#include "on_device.h"

namespace cajal::cuda::test {
namespace {

struct Case {
  std::int64_t in_features, out_features;
  int sum_parts = 1;
  bool bias = false;
};

Graph linear_graph(const Case& c, std::int64_t rows, DType dtype) {
  Graph g;
  const Value x = g.add_leaf(ops::Input{"x"}, {dtype, {rows, c.in_features}, Plain{}}, "x");
  const Shape shape{c.out_features, c.in_features};
  std::vector<Value> inputs{x, g.add_leaf(ops::Parameter{{{"w", shape, {}}}}, {dtype, shape, Plain{}}, "w")};
  if (c.bias)
    inputs.push_back(
        g.add_leaf(ops::Parameter{{{"b", {c.out_features}, {}}}}, {dtype, {c.out_features}, Plain{}}, "b"));
  g.set_outputs({g.add(ops::Linear{c.sum_parts}, std::move(inputs), "linear")});
  return g;
}

Bytes reference(const Case& c, std::int64_t rows, DType dtype) {
  const auto n = static_cast<std::size_t>(c.out_features), k = static_cast<std::size_t>(c.in_features),
             m = static_cast<std::size_t>(rows);
  const Bytes x = random_elements("x", m * k, dtype), w = random_elements("w", n * k, dtype),
              b = random_elements("b", n, dtype);
  Bytes y(m * n * size_of(dtype));
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = c.bias ? element(b.data(), j, dtype) : 0.0;
      for (std::size_t l = 0; l < k; ++l)
        sum += static_cast<double>(element(x.data(), i * k + l, dtype)) * element(w.data(), j * k + l, dtype);
      set_element(y.data(), i * n + j, dtype, static_cast<float>(sum));
    }
  return y;
}

class LinearOnDevice : public OnDevice, public testing::WithParamInterface<Case> {};

// Buckets on both sides of every change of kernel, with steps that fill them and steps that do not.
constexpr std::int64_t kBuckets[] = {1, 2, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128, 200, 257, 300};

void check_case(Backend& device, const Case& c, DType dtype, double tolerance) {
  const std::int64_t most = kBuckets[std::size(kBuckets) - 1];
  Ran largest(device, linear_graph(c, most, dtype));
  const Bytes all = largest.run({}, {most, 0});
  EXPECT_LT(distance(all, reference(c, most, dtype), dtype), tolerance);
  const auto row_bytes = static_cast<std::size_t>(c.out_features) * size_of(dtype);
  for (const std::int64_t bucket : kBuckets) {
    Ran some(device, linear_graph(c, bucket, dtype));
    for (const std::int64_t rows : {bucket, (bucket + 1) / 2})
      EXPECT_EQ(some.run({}, {rows, 0}), first_bytes(all, row_bytes * static_cast<std::size_t>(rows)))
          << rows << " rows in a bucket of " << bucket << ", kernel " << some.executable().kernel_names().back();
  }
}

TEST_P(LinearOnDevice, Bf16SumsAreRightAndARowsBitsAreItsOwn) { check_case(device(), GetParam(), DType::bf16, 3e-3); }
TEST_P(LinearOnDevice, F32SumsAreRightAndARowsBitsAreItsOwn) { check_case(device(), GetParam(), DType::f32, 4e-6); }

INSTANTIATE_TEST_SUITE_P(Shapes, LinearOnDevice,
                         testing::Values(Case{64, 48}, Case{16, 8}, Case{1024, 264}, Case{1024, 256, 8},
                                         Case{3072, 128, 8}, Case{4096, 136}, Case{4096, 72, 8, true},
                                         Case{12288, 40, 8}, Case{100, 30}, Case{7, 3, 1, true}, Case{24, 8},
                                         Case{272, 33, 8}, Case{96, 130, 2}, Case{160, 16, 4, true}, Case{256, 4104},
                                         Case{512, 1544, 8, true}, Case{192, 200, 1, true}),
                         [](const auto& i) {
                           return detail::join(i.param.in_features, "x", i.param.out_features, "_parts_",
                                               i.param.sum_parts, i.param.bias ? "_bias" : "");
                         });

// Gates and what they let through, from one product of both: made in one kernel or in two, as the bucket's rows have it.
class GatesOnDevice : public OnDevice, public testing::WithParamInterface<Case> {};

Graph gated_graph(const Case& c, std::int64_t rows) {
  Graph g;
  const std::int64_t columns = c.out_features / 2;
  const Shape shape{c.out_features, c.in_features};
  const Value both = g.add(ops::Linear{c.sum_parts},
                           {g.add_leaf(ops::Input{"x"}, {DType::bf16, {rows, c.in_features}, Plain{}}, "x"),
                            g.add_leaf(ops::Parameter{{{"w", shape, {}}}}, {DType::bf16, shape, Plain{}}, "w")},
                           "linear");
  const Value gate = g.add(ops::Slice{0, columns}, {both}, "gate"),
              up = g.add(ops::Slice{columns, 2 * columns}, {both}, "up");
  g.set_outputs({g.add(ops::SiluMul{}, {gate, up}, "mul")});
  return g;
}

TEST_P(GatesOnDevice, GiveARowTheSameBitsInEveryBucket) {
  const std::int64_t most = 300;
  const auto row_bytes = static_cast<std::size_t>(GetParam().out_features);
  Ran few(device(), gated_graph(GetParam(), 9));
  const Bytes first = few.run({}, {9, 0});
  const Bytes all = Ran(device(), gated_graph(GetParam(), most)).run({}, {most, 0});
  EXPECT_EQ(first_bytes(all, 9 * row_bytes), first);
  EXPECT_LT(distance(Ran(host(), gated_graph(GetParam(), most)).run({}, {most, 0}), all, DType::bf16), 6e-3);
  for (const std::int64_t bucket : {17, 40, 64, 100, 256}) {
    Ran some(device(), gated_graph(GetParam(), bucket));
    for (const std::int64_t rows : {bucket, (bucket + 1) / 2})
      EXPECT_EQ(some.run({}, {rows, 0}), first_bytes(all, row_bytes * static_cast<std::size_t>(rows)))
          << rows << " rows in a bucket of " << bucket << ", kernel " << some.executable().kernel_names().back();
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, GatesOnDevice,
                         testing::Values(Case{128, 48}, Case{512, 6160}, Case{1024, 32, 8}, Case{192, 400},
                                         Case{64, 24}),
                         [](const auto& i) {
                           return detail::join(i.param.in_features, "x", i.param.out_features, "_parts_",
                                               i.param.sum_parts);
                         });

}  // namespace
}  // namespace cajal::cuda::test
