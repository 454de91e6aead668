// Norms of rows, with a sum before them and without: right for any width, and a row's bits whatever the bucket.
#include "on_device.h"

namespace cajal::cuda::test {
namespace {

struct Case {
  std::int64_t columns;
  DType dtype = DType::bf16;
};

constexpr float kEpsilon = 1e-6f;

// Outputs: the sum if there is one, the norm.
Graph norm_graph(const Case& c, std::int64_t rows, bool adds) {
  Graph g;
  const TensorType type{c.dtype, {rows, c.columns}, Plain{}};
  Value x = g.add_leaf(ops::Input{"x"}, type, "x");
  const Value b = adds ? g.add_leaf(ops::Input{"b"}, type, "b") : x;
  const Value w = g.add_leaf(ops::Parameter{{{"w", {c.columns}, {}}}}, {c.dtype, {c.columns}, Plain{}}, "w");
  if (adds) x = g.add(ops::Add{}, {x, b}, "sum");
  const Value y = g.add(ops::RmsNorm{kEpsilon}, {x, w}, "norm");
  adds ? g.set_outputs({x, y}) : g.set_outputs({y});
  return g;
}

// What the rows of `x` come to.
Bytes reference(const Case& c, std::size_t rows, const Bytes& x) {
  const auto columns = static_cast<std::size_t>(c.columns);
  const Bytes w = random_elements("w", columns, c.dtype);
  Bytes y(x.size());
  for (std::size_t row = 0; row < rows; ++row) {
    double squares = 0;
    for (std::size_t i = 0; i < columns; ++i) squares += std::pow(element(x.data(), row * columns + i, c.dtype), 2.0);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + kEpsilon);
    for (std::size_t i = 0; i < columns; ++i)
      set_element(y.data(), row * columns + i, c.dtype,
                  static_cast<float>(element(x.data(), row * columns + i, c.dtype) * factor *
                                     static_cast<double>(element(w.data(), i, c.dtype))));
  }
  return y;
}

class NormOnDevice : public OnDevice, public testing::WithParamInterface<Case> {};

TEST_P(NormOnDevice, IsRightAndARowsBitsAreItsOwn) {
  const Case c = GetParam();
  constexpr std::int64_t kRows = 33;
  const std::size_t count = kRows * static_cast<std::size_t>(c.columns), bytes = count * size_of(c.dtype);
  Bytes x = random_elements("x", count, c.dtype);
  const Bytes b = random_elements("b", count, c.dtype);
  for (const bool adds : {false, true}) {
    if (adds)
      for (std::size_t i = 0; i < count; ++i)
        set_element(x.data(), i, c.dtype, element(x.data(), i, c.dtype) + element(b.data(), i, c.dtype));
    Ran all(device(), norm_graph(c, kRows, adds));
    if (adds) EXPECT_EQ(all.run({}, {kRows, 0}, 0), x);
    const Bytes y = all.run({}, {kRows, 0}, adds);
    EXPECT_LT(distance(y, reference(c, kRows, x), c.dtype), c.dtype == DType::bf16 ? 4e-3 : 1e-6);
    for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{20}})
      EXPECT_EQ(Ran(device(), norm_graph(c, rows, adds)).run({}, {rows, 0}, adds),
                first_bytes(y, bytes / kRows * static_cast<std::size_t>(rows)));
  }
}

INSTANTIATE_TEST_SUITE_P(Widths, NormOnDevice,
                         testing::Values(Case{8}, Case{64}, Case{100}, Case{1000}, Case{1024}, Case{2560}, Case{4096},
                                         Case{5120}, Case{8192}, Case{9000}, Case{4096, DType::f32}),
                         [](const auto& i) {
                           return detail::join(i.param.columns, i.param.dtype == DType::bf16 ? "" : "_f32");
                         });

}  // namespace
}  // namespace cajal::cuda::test
