// Bounds by a sketch: no exact product exceeds them, and they are as close as the norms of its errors say.
#include "backends/cpu/kernels/sketch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "backends/cpu/isa.h"

namespace cajal::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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
      }
      weights[static_cast<std::size_t>(n * l.padded_columns() + k)] = w;
    }
  return weights;
}

struct Sketch {
  SketchLayout layout;
  std::vector<std::byte> bytes;
  std::vector<SketchRows> rows;

  Sketch(const SketchLayout& l, const std::vector<float>& weights)
      : layout(l), bytes(static_cast<std::size_t>(l.bytes())), rows(static_cast<std::size_t>(l.tiles())) {
    for (std::int64_t t = 0; t < l.tiles(); ++t)
      sketch_tile(l, t, weights.data() + t * SketchLayout::kTileRows * l.padded_columns(), bytes.data(),
                  rows[static_cast<std::size_t>(t)]);
  }
};

// Activations that are integers times powers of two, so that rounding them loses nothing.
SketchInput random_input(const SketchLayout& l, std::mt19937& random, std::vector<double>& x) {
  SketchInput input(l);
  x.assign(static_cast<std::size_t>(l.padded_columns()), 0);
  double squares = 0;
  for (std::int64_t g = 0; g < l.groups(); ++g) {
    const float unit = std::ldexp(1.0f, static_cast<int>(random() % 7) - 3);
    std::int32_t sum = 0;
    for (std::int64_t k = g * 32; k < std::min((g + 1) * 32, l.columns); ++k) {
      const int q = static_cast<int>(random() % 255) - 127;
      input.integers[static_cast<std::size_t>(k)] = static_cast<std::int8_t>(q);
      sum += q;
      x[static_cast<std::size_t>(k)] = q * static_cast<double>(unit);
      squares += x[static_cast<std::size_t>(k)] * x[static_cast<std::size_t>(k)];
    }
    input.set_group(l, g, unit, sum);
  }
  input.norm = static_cast<float>(std::sqrt(squares) * 1.000001);
  input.noise = static_cast<float>(static_cast<double>(l.columns + 64) * 0x1p-23) * input.norm;
  return input;
}

double product(const SketchLayout& l, const std::vector<float>& weights, std::int64_t n, const std::vector<double>& x) {
  double sum = 0;
  for (std::int64_t k = 0; k < l.columns; ++k)
    sum += static_cast<double>(weights[static_cast<std::size_t>(n * l.padded_columns() + k)]) *
           x[static_cast<std::size_t>(k)];
  return sum;
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
  sketch_bounds(s.layout, s.bytes.data(), s.rows.data(), &input, 1, 0, s.layout.tiles(), &memory);
  return bounds;
}

// At most twice what the rows' norms say can be wrong, above the product.
void expect_close(const Sketch& s, std::int64_t n, const SketchInput& input, double exact, double bound) {
  const SketchRows& rows = s.rows[static_cast<std::size_t>(n / SketchLayout::kTileRows)];
  const auto at = static_cast<std::size_t>(n % SketchLayout::kTileRows);
  const double off = static_cast<double>(rows.error[at]) * static_cast<double>(input.norm) +
                     static_cast<double>(rows.norm[at]) * static_cast<double>(input.noise);
  ASSERT_GE(bound, exact) << "row " << n;
  ASSERT_LE(bound, exact + 2.001 * off) << "row " << n;
}

void check(const SketchLayout& l, Weights kind, int num_inputs) {
  std::mt19937 random(static_cast<unsigned>(l.rows * 31 + l.columns));
  const std::vector<float> weights = random_weights(l, kind, random);
  const Sketch s(l, weights);
  std::vector<SketchInput> inputs;
  std::vector<std::vector<double>> x(static_cast<std::size_t>(num_inputs));
  inputs.reserve(x.size());
  for (auto& row : x) inputs.push_back(random_input(l, random, row));
  std::vector<Bounds> bounds(static_cast<std::size_t>(num_inputs), Bounds(l));
  SketchBounds memory[kMostSketchInputs] = {};
  for (std::size_t i = 0; i < bounds.size(); ++i) memory[i] = bounds[i].memory();
  // In two pieces, as threads do it.
  const std::int64_t cut = l.tiles() / 3;
  sketch_bounds(l, s.bytes.data(), s.rows.data(), inputs.data(), num_inputs, 0, cut, memory);
  sketch_bounds(l, s.bytes.data(), s.rows.data(), inputs.data(), num_inputs, cut, l.tiles(), memory);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::vector<double> largest(bounds[i].of_tiles.size(), -kInfinity);
    for (std::int64_t n = 0; n < l.rows; ++n) {
      const double exact = product(l, weights, n, x[i]);
      expect_close(s, n, inputs[i], exact, static_cast<double>(bounds[i].of_rows[static_cast<std::size_t>(n)]));
      double& of_tile = largest[static_cast<std::size_t>(n / SketchLayout::kTileRows)];
      of_tile = std::max(of_tile, exact);
    }
    for (std::size_t t = 0; t < largest.size(); ++t) {
      const auto first = bounds[i].of_rows.begin() + static_cast<std::ptrdiff_t>(t) * SketchLayout::kTileRows;
      EXPECT_EQ(bounds[i].of_tiles[t], *std::max_element(first, first + SketchLayout::kTileRows));
    }
    if (!l.two_layers) continue;
    const std::vector<float> coarse = bounds[i].of_tiles;
    std::vector<float> sorted = coarse;
    std::nth_element(sorted.begin(), sorted.begin() + std::ssize(sorted) / 2, sorted.end());
    const float threshold = sorted[sorted.size() / 2];
    refine_bounds(l, s.bytes.data(), inputs[i], 0, l.tiles(), threshold, memory[i]);
    for (std::size_t t = 0; t < largest.size(); ++t) {
      const float fine = bounds[i].of_tiles[t];
      if (coarse[t] < threshold) {
        EXPECT_EQ(fine, coarse[t]);
      } else if (largest[t] >= static_cast<double>(threshold)) {
        EXPECT_GE(static_cast<double>(fine), largest[t]);
        EXPECT_LE(static_cast<double>(fine),
                  static_cast<double>(coarse[t]) + 1e-6 * std::fabs(static_cast<double>(coarse[t])));
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
  for (const bool two_layers : {false, true})
    for (const auto kind : {Weights::normal, Weights::spread, Weights::odd_rows})
      for (const std::int64_t rows : {1, 16, 33, 200})
        for (const std::int64_t columns : {1, 31, 128, 200, 1024})
          for (int inputs = 1; inputs <= kMostSketchInputs; ++inputs) {
            SCOPED_TRACE(testing::Message() << two_layers << ' ' << static_cast<int>(kind) << ' ' << rows << " x "
                                            << columns << ", inputs " << inputs);
            check({rows, columns, two_layers}, kind, inputs);
            if (HasFatalFailure()) return;
          }
}

// Of normal weights: 16 and 64 levels over the largest of 32 of them.
TEST_F(SketchTest, ErrorsAreThoseOfTheBits) {
  for (const bool two_layers : {false, true}) {
    const SketchLayout l{64, 1024, two_layers};
    std::mt19937 random(3);
    const Sketch s(l, random_weights(l, Weights::normal, random));
    for (const SketchRows& rows : s.rows)
      for (std::size_t n = 0; n < SketchLayout::kTileRows; ++n) {
        EXPECT_LT(rows.error[n], (two_layers ? 0.1f : 0.025f) * 32);
        EXPECT_GT(rows.norm[n], 28.0f);
      }
  }
}

TEST_F(SketchTest, FineLayerHalvesTheErrorTwice) {
  const SketchLayout l{160, 1024, true};
  std::mt19937 random(4);
  const std::vector<float> weights = random_weights(l, Weights::normal, random);
  const Sketch s(l, weights);
  std::vector<double> x;
  const SketchInput input = random_input(l, random, x);
  Bounds bounds = coarse_bounds(s, input);
  const std::vector<float> coarse = bounds.of_tiles;
  refine_bounds(l, s.bytes.data(), input, 0, l.tiles(), -std::numeric_limits<float>::infinity(), bounds.memory());
  for (std::size_t t = 0; t < coarse.size(); ++t) {
    double largest = -kInfinity;
    for (std::int64_t n = 0; n < SketchLayout::kTileRows; ++n)
      largest = std::max(largest, product(l, weights, static_cast<std::int64_t>(t) * SketchLayout::kTileRows + n, x));
    EXPECT_LT(static_cast<double>(bounds.of_tiles[t]) - largest, 0.5 * (static_cast<double>(coarse[t]) - largest));
  }
}

TEST_F(SketchTest, NothingIsSaidOfWeightsThatAreNoNumbers) {
  for (const bool two_layers : {false, true})
    for (const float odd : {INFINITY, -INFINITY, NAN, 1e30f}) {
      const SketchLayout l{20, 256, two_layers};
      std::mt19937 random(5);
      std::vector<float> weights = random_weights(l, Weights::normal, random);
      weights[static_cast<std::size_t>(17 * l.padded_columns() + 40)] = odd;
      const Sketch s(l, weights);
      std::vector<double> x;
      const SketchInput input = random_input(l, random, x);
      Bounds bounds = coarse_bounds(s, input);
      if (two_layers) refine_bounds(l, s.bytes.data(), input, 0, l.tiles(), 1e20f, bounds.memory());
      EXPECT_EQ(bounds.of_tiles[1], INFINITY);
      EXPECT_LT(bounds.of_tiles[0], INFINITY);
    }
}

}  // namespace
}  // namespace cajal::cpu
