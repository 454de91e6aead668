// Bounds by a sketch: no exact product exceeds them, and they are as close as the dither's doubt says.
#include "backends/cpu/kernels/sketch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "backends/cpu/isa.h"

namespace cajal::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kDeviations = std::sqrt(2 * 64 * std::log(2.0));  // of a normal number, that 2^-64 of them exceed at most

enum class Weights : std::uint8_t { normal, spread, odd_rows };

// [tiles * 16, padded columns]; columns of padding are zero.
std::vector<float> random_weights(const SketchLayout& l, Weights kind, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> weights(static_cast<std::size_t>(l.tiles() * SketchLayout::kTileRows * l.padded_columns()));
  for (std::int64_t n = 0; n < l.rows; ++n)
    for (std::int64_t k = 0; k < l.columns; ++k) {
      float w = normal(random);
      if (kind == Weights::spread) w = std::ldexp(w, static_cast<int>(random() % 40) - 30);
      if (kind == Weights::odd_rows) {
        if (n % 7 == 0) w = 0;
        if (n % 7 == 1) w = std::ldexp(w, -130);
        if (n % 7 == 2) w = std::ldexp(w, 70);
        if (n % 7 == 3 && k == 5) w = 1e6f;
        if (n % 7 == 4) w = 1;
        if (n % 7 == 5) w = std::ldexp(w, -90);
      }
      weights[static_cast<std::size_t>(n * l.padded_columns() + k)] = w;
    }
  return weights;
}

// A sketch, and what its bytes say, number by number.
struct Sketch {
  SketchLayout layout;
  std::vector<float> dither;
  std::vector<std::byte> bytes;

  Sketch(const SketchLayout& l, const std::vector<float>& weights)
      : layout(l), dither(sketch_dither(l)), bytes(static_cast<std::size_t>(l.bytes())) {
    for (std::int64_t t = 0; t < l.tiles(); ++t)
      sketch_tile(l, t, weights.data() + t * SketchLayout::kTileRows * l.padded_columns(), dither.data(), bytes.data());
  }

  int byte(std::int64_t at) const { return static_cast<int>(bytes[static_cast<std::size_t>(at)]); }
  std::int64_t tile_at(std::int64_t n) const { return n / SketchLayout::kTileRows * layout.tile_bytes(); }
  std::int64_t unit_at(std::int64_t n, std::int64_t group) const {
    return tile_at(n) + SketchLayout::kRowsBytes + group / 4 * SketchLayout::kUnitBytes;
  }
  double bf16_at(std::int64_t at) const {
    std::uint16_t half;
    std::memcpy(&half, bytes.data() + at, sizeof half);
    const std::uint32_t bits = std::uint32_t{half} << 16;
    float v;
    std::memcpy(&v, &bits, sizeof v);
    return static_cast<double>(v);
  }
  double scale(std::int64_t n) const { return bf16_at(tile_at(n) + n % 16 * 2); }
  double norm(std::int64_t n) const { return bf16_at(tile_at(n) + 32 + n % 16 * 2); }
  double step(std::int64_t n, std::int64_t group) const {
    return scale(n) * byte(unit_at(n, group) + group % 4 * 16 + n % 16);
  }
  int coarse(std::int64_t n, std::int64_t k) const {
    const std::int64_t group = k / 64, s = k % 32 / 4;
    const std::int64_t block = unit_at(n, group) + SketchLayout::kScalesBytes + group % 4 * SketchLayout::kGroupBytes +
                               k % 64 / 32 * SketchLayout::kBlockBytes;
    const auto at = [&](std::int64_t i) { return byte(block + i * 64 + n % 16 * 4 + k % 4); };
    if (s < 3) return at(s) & 7;
    if (s < 6) return at(s - 3) >> 3 & 7;
    return at(s - 6) >> 6 | (at(2) >> s & 1) << 2;
  }
  int fine(std::int64_t n, std::int64_t k) const {
    const std::int64_t row = layout.coarse_bytes() + n * layout.fine_row_bytes();
    return byte(row + k / 64 * 16 + k % 16) >> (k % 64 / 16 * 2) & 3;
  }
  double dithered(std::int64_t k) const { return 4 * static_cast<double>(dither[static_cast<std::size_t>(k)]); }
  double coarse_weight(std::int64_t n, std::int64_t k) const {
    return (4 * (coarse(n, k) - 3.5) + dithered(k)) * step(n, k / 64);
  }
  double fine_weight(std::int64_t n, std::int64_t k) const {
    return (4 * coarse(n, k) + fine(n, k) - 15.5 + dithered(k)) * step(n, k / 64);
  }
};

struct Input {
  SketchInput rounded;
  std::vector<double> x;
};

// Activations that are integers times powers of two, so that rounding them loses nothing.
Input random_input(const SketchLayout& l, std::mt19937& random) {
  Input input{SketchInput(l), std::vector<double>(static_cast<std::size_t>(l.padded_columns()))};
  double squares = 0, off = 0;
  for (std::int64_t g = 0; g < ceil_div(l.columns, std::int64_t{64}); ++g) {
    const float unit = std::ldexp(1.0f, static_cast<int>(random() % 7) - 3);
    std::vector<float> exact;
    for (std::int64_t k = g * 64; k < std::min((g + 1) * 64, l.columns); ++k) {
      exact.push_back(static_cast<float>(static_cast<int>(random() % 255) - 127) * unit);
      input.x[static_cast<std::size_t>(k)] = static_cast<double>(exact.back());
      squares += input.x[static_cast<std::size_t>(k)] * input.x[static_cast<std::size_t>(k)];
    }
    off += input.rounded.set_group(g, exact, unit);
  }
  EXPECT_EQ(off, 0);
  input.rounded.noise = static_cast<float>(2 * static_cast<double>(l.columns + 64) * 0x1p-23 * std::sqrt(squares));
  return input;
}

double product(const SketchLayout& l, const std::vector<float>& weights, std::int64_t n, const std::vector<double>& x) {
  double sum = 0;
  for (std::int64_t k = 0; k < l.columns; ++k)
    sum += static_cast<double>(weights[static_cast<std::size_t>(n * l.padded_columns() + k)]) *
           x[static_cast<std::size_t>(k)];
  return sum;
}

// What the errors of a row's coarse weights come to, where they are as large as once in 2^64.
double doubt(const Sketch& s, std::int64_t n, const Input& input) {
  double variance = 0;
  for (std::int64_t k = 0; k < s.layout.columns; ++k)
    variance += std::pow(4 * s.step(n, k / 64) * input.x[static_cast<std::size_t>(k)], 2) / 12;
  return kDeviations * std::sqrt(variance);
}

struct Bounds {
  std::vector<float> of_tiles, of_rows;
  explicit Bounds(const SketchLayout& l)
      : of_tiles(static_cast<std::size_t>(l.tiles()), -1), of_rows(of_tiles.size() * SketchLayout::kTileRows, -1) {}
  SketchBounds memory() { return {of_tiles.data(), of_rows.data()}; }
};

// By the coarse layer, of all tiles.
Bounds coarse_bounds(const Sketch& s, const SketchInput& input) {
  Bounds bounds(s.layout);
  const SketchBounds memory = bounds.memory();
  sketch_bounds(s.layout, s.bytes.data(), &input, 1, 0, s.layout.tiles(), &memory);
  return bounds;
}

// Above the product, and what the sketch's bytes say.
void expect_bound(const Sketch& s, std::int64_t n, const Input& input, double exact, double bound) {
  ASSERT_GE(bound, exact) << "row " << n;
  const double noise = s.norm(n) * static_cast<double>(input.rounded.noise), off = doubt(s, n, input);
  if (noise == kInfinity) return;
  double want = off + noise;
  for (std::int64_t k = 0; k < s.layout.columns; ++k)
    want += s.coarse_weight(n, k) * input.x[static_cast<std::size_t>(k)];
  ASSERT_NEAR(bound, want, noise + 2e-4 * off) << "row " << n;
}

void check(const SketchLayout& l, Weights kind, int num_inputs) {
  std::mt19937 random(static_cast<unsigned>(l.rows * 31 + l.columns));
  const std::vector<float> weights = random_weights(l, kind, random);
  const Sketch s(l, weights);
  std::vector<Input> inputs;
  std::vector<SketchInput> rounded;
  for (int i = 0; i < num_inputs; ++i) inputs.push_back(random_input(l, random)), rounded.push_back(inputs[i].rounded);
  std::vector<Bounds> bounds(inputs.size(), Bounds(l));
  SketchBounds memory[kMostSketchInputs] = {};
  for (std::size_t i = 0; i < bounds.size(); ++i) memory[i] = bounds[i].memory();
  // In two pieces, as threads do it.
  const std::int64_t cut = l.tiles() / 3;
  sketch_bounds(l, s.bytes.data(), rounded.data(), num_inputs, 0, cut, memory);
  sketch_bounds(l, s.bytes.data(), rounded.data(), num_inputs, cut, l.tiles(), memory);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::vector<double> largest(bounds[i].of_tiles.size(), -kInfinity);
    for (std::int64_t n = 0; n < l.rows; ++n) {
      const double exact = product(l, weights, n, inputs[i].x);
      expect_bound(s, n, inputs[i], exact, static_cast<double>(bounds[i].of_rows[static_cast<std::size_t>(n)]));
      if (testing::Test::HasFatalFailure()) return;
      double& of_tile = largest[static_cast<std::size_t>(n / SketchLayout::kTileRows)];
      of_tile = std::max(of_tile, exact);
    }
    for (std::size_t t = 0; t < largest.size(); ++t) {
      const auto first = bounds[i].of_rows.begin() + static_cast<std::ptrdiff_t>(t) * SketchLayout::kTileRows;
      EXPECT_EQ(bounds[i].of_tiles[t], *std::max_element(first, first + SketchLayout::kTileRows));
    }
    const std::vector<float> coarse = bounds[i].of_tiles;
    std::vector<float> sorted = coarse;
    std::nth_element(sorted.begin(), sorted.begin() + std::ssize(sorted) / 2, sorted.end());
    const float threshold = sorted[sorted.size() / 2];
    refine_bounds(l, s.bytes.data(), inputs[i].rounded, 0, l.tiles(), threshold, memory[i]);
    for (std::size_t t = 0; t < largest.size(); ++t) {
      if (coarse[t] < threshold) {
        EXPECT_EQ(bounds[i].of_tiles[t], coarse[t]);
      } else if (largest[t] >= static_cast<double>(threshold)) {
        EXPECT_GE(static_cast<double>(bounds[i].of_tiles[t]), largest[t]);
      }
    }
  }
}

class SketchTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!can_sketch(detect_isa())) GTEST_SKIP() << "no AVX512-VNNI here";
  }
};

TEST_F(SketchTest, NoProductExceedsItsBound) {
  for (const auto kind : {Weights::normal, Weights::spread, Weights::odd_rows})
    for (const std::int64_t rows : {1, 16, 33, 200})
      for (const std::int64_t columns : {1, 63, 256, 330, 1024})
        for (int inputs = 1; inputs <= kMostSketchInputs; ++inputs) {
          SCOPED_TRACE(testing::Message()
                       << static_cast<int>(kind) << ' ' << rows << " x " << columns << ", inputs " << inputs);
          check({rows, columns}, kind, inputs);
          if (HasFatalFailure()) return;
        }
}

TEST_F(SketchTest, DitherIsUniform) {
  const std::vector<float> dither = sketch_dither({1, 1 << 16});
  double sum = 0, squares = 0, neighbours = 0;
  for (std::size_t k = 0; k < dither.size(); ++k) {
    ASSERT_TRUE(dither[k] >= -0.5f && dither[k] < 0.5f);
    const auto u = static_cast<double>(dither[k]);
    sum += u, squares += u * u, neighbours += u * static_cast<double>(dither[k ^ 1]);
  }
  const auto count = static_cast<double>(dither.size());
  EXPECT_NEAR(sum / count, 0, 5 / std::sqrt(12 * count));
  EXPECT_NEAR(squares / count, 1.0 / 12, 5 / std::sqrt(180 * count));
  EXPECT_NEAR(neighbours / count, 0, 5 / std::sqrt(72 * count));
}

// Of weights that are all the same as well, which without a dither would be off by the same.
TEST_F(SketchTest, ErrorsAreUniformAndCancel) {
  const SketchLayout l{64, 1024};
  std::mt19937 random(3);
  std::vector<float> weights = random_weights(l, Weights::normal, random);
  for (std::int64_t n = 0; n < 32; ++n)
    for (std::int64_t k = 0; k < l.columns; ++k)
      weights[static_cast<std::size_t>(n * l.padded_columns() + k)] =
          k % 64 == 0 ? 1 : static_cast<float>(n) / 32 - 0.5f;
  const Sketch s(l, weights);
  double all_squares = 0;
  for (std::int64_t n = 0; n < l.rows; ++n) {
    double sum = 0;
    for (std::int64_t k = 0; k < l.columns; ++k) {
      const auto w = static_cast<double>(weights[static_cast<std::size_t>(n * l.padded_columns() + k)]);
      const double step = s.step(n, k / 64), coarse = (w - s.coarse_weight(n, k)) / step;
      ASSERT_LE(std::fabs(coarse), 2.0001) << n << ' ' << k;
      ASSERT_LE(std::fabs((w - s.fine_weight(n, k)) / step), 0.5001) << n << ' ' << k;
      sum += coarse, all_squares += coarse * coarse;
    }
    EXPECT_LT(std::fabs(sum), 5 * 4 * std::sqrt(static_cast<double>(l.columns) / 12)) << n;
  }
  EXPECT_NEAR(all_squares / static_cast<double>(l.rows * l.columns), 16.0 / 12, 0.05);
}

// A step is an eighth of what the group's largest weight needs: 3.5 coarse steps to either side.
TEST_F(SketchTest, StepsAreThoseOfTheBits) {
  const SketchLayout l{64, 1024};
  std::mt19937 random(3);
  const std::vector<float> weights = random_weights(l, Weights::normal, random);
  const Sketch s(l, weights);
  for (std::int64_t n = 0; n < l.rows; ++n) {
    for (std::int64_t g = 0; g < l.groups(); ++g) {
      const auto first = weights.begin() + n * l.padded_columns() + g * 64;
      const float largest =
          std::fabs(*std::max_element(first, first + 64, [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
      EXPECT_GE(s.step(n, g) * 14, static_cast<double>(largest));
      EXPECT_LE(s.step(n, g) * 14, static_cast<double>(largest) * 1.02);
    }
    EXPECT_GT(s.norm(n), 28);
    EXPECT_LT(s.norm(n), 64);
  }
}

TEST_F(SketchTest, FineLayerHalvesTheDoubtTwice) {
  const SketchLayout l{160, 1024};
  std::mt19937 random(4);
  const std::vector<float> weights = random_weights(l, Weights::normal, random);
  const Sketch s(l, weights);
  const Input input = random_input(l, random);
  Bounds bounds = coarse_bounds(s, input.rounded);
  refine_bounds(l, s.bytes.data(), input.rounded, 0, l.tiles(), -std::numeric_limits<float>::infinity(),
                bounds.memory());
  for (std::int64_t t = 0; t < l.tiles(); ++t) {
    double want = -kInfinity, noise = 0;
    for (std::int64_t n = t * SketchLayout::kTileRows; n < (t + 1) * SketchLayout::kTileRows; ++n) {
      double bound = doubt(s, n, input) / 4;
      for (std::int64_t k = 0; k < l.columns; ++k) bound += s.fine_weight(n, k) * input.x[static_cast<std::size_t>(k)];
      want = std::max(want, bound), noise = std::max(noise, s.norm(n) * static_cast<double>(input.rounded.noise));
    }
    EXPECT_NEAR(static_cast<double>(bounds.of_tiles[static_cast<std::size_t>(t)]), want, 2 * noise);
  }
}

// Numbers that are just below half a unit are rounded away; where a row has the same weight for all of them, that is more than
// the weights' doubt.
TEST_F(SketchTest, CountsWhatRoundingActivationsDoes) {
  const SketchLayout l{16, 4096};
  const std::vector<float> weights(static_cast<std::size_t>(l.rows * l.columns), 1);
  const Sketch s(l, weights);
  SketchInput input(l);
  std::vector<float> group(64, 0.49f);
  group[7] = 127;
  double off = 0, exact = 0;
  for (std::int64_t g = 0; g < l.groups(); ++g) off += input.set_group(g, group, 1);
  for (const float x : group) exact += static_cast<double>(x) * static_cast<double>(l.groups());
  EXPECT_NEAR(off, static_cast<double>(l.groups()) * 63 * 0.49 * 0.49, 0.001 * off);
  input.noise = 1e-30f;
  EXPECT_LT(static_cast<double>(coarse_bounds(s, input).of_tiles[0]), exact);
  input.noise = static_cast<float>(std::sqrt(off));
  EXPECT_GE(static_cast<double>(coarse_bounds(s, input).of_tiles[0]), exact);
}

TEST_F(SketchTest, NothingIsSaidOfWeightsThatAreNoNumbers) {
  for (const float odd : {INFINITY, -INFINITY, NAN, 1e30f}) {
    const SketchLayout l{20, 256};
    std::mt19937 random(5);
    std::vector<float> weights = random_weights(l, Weights::normal, random);
    weights[static_cast<std::size_t>(17 * l.padded_columns() + 40)] = odd;
    const Sketch s(l, weights);
    const Input input = random_input(l, random);
    Bounds bounds = coarse_bounds(s, input.rounded);
    EXPECT_EQ(bounds.of_rows[20], -INFINITY);
    refine_bounds(l, s.bytes.data(), input.rounded, 0, l.tiles(), 1e20f, bounds.memory());
    EXPECT_EQ(bounds.of_tiles[1], INFINITY);
    EXPECT_LT(bounds.of_tiles[0], INFINITY);
  }
}

}  // namespace
}  // namespace cajal::cpu
