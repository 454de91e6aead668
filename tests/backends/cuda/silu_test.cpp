// silu without a branch for each number: right for all that there are.
#include "on_device.h"

namespace cajal::cuda::test {
namespace {

using SiluOnDevice = OnDevice;

constexpr std::int64_t kSide = 256;  // rows and columns that hold every bf16 number once

Graph silu_graph() {
  Graph g;
  const TensorType type{DType::bf16, {kSide, kSide}, Plain{}};
  const Value gate = g.add_leaf(ops::Input{"gate"}, type, "gate"), up = g.add_leaf(ops::Input{"up"}, type, "up");
  g.set_outputs({g.add(ops::SiluMul{}, {gate, up}, "mul")});
  return g;
}

// The bits of the number at `i`: those next to each other are of all sizes.
std::uint16_t number_at(std::size_t i) { return static_cast<std::uint16_t>(i * 40503); }

TEST_F(SiluOnDevice, IsRightForEveryNumberWhateverStandsBesideIt) {
  constexpr std::size_t kAll = kSide * kSide;
  std::vector<std::int32_t> gates, ones(kAll / 2, 0x3f803f80);
  for (std::size_t i = 0; i < kAll; i += 2)
    gates.push_back(static_cast<std::int32_t>(number_at(i) | std::uint32_t{number_at(i + 1)} << 16));
  const Bytes y = Ran(device(), silu_graph()).run({{"gate", gates}, {"up", ones}}, {kSide, 0});
  for (std::size_t i = 0; i < kAll; ++i) {
    const double x = bf16_to_float(number_at(i)), got = element(y.data(), i, DType::bf16),
                 want = x / (1 + std::exp(-x));
    if (std::isfinite(x))
      ASSERT_NEAR(got, want, std::abs(want) / 256 + 1e-36) << x;  // below that the exponential is too large for f32
    else if (std::isnan(want))
      ASSERT_TRUE(std::isnan(got)) << x;
    else
      ASSERT_EQ(got, want);
  }
}

}  // namespace
}  // namespace cajal::cuda::test
