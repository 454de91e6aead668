// What bf16 attention does with positions that it takes together, pairs or blocks: which they are, what is rounded and what counts as zero.
#include <gtest/gtest.h>

#include <cmath>

#include "backends/cpu/attention_fixture.h"

namespace cajal::cpu::testing {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t kDim = 36;      // two vectors of 16 columns and a tail
constexpr std::int64_t kTileDim = 32;  // what tile registers take

struct Answer {
  const char* kernel;
  Elements y;
};

// What the kernels of a reference's class make of some rows; that of the reference is the first.
std::vector<Answer> answers(const AttentionKernel& reference, const World& world, const Part& part) {
  ThreadPool pool(1);
  std::vector<Answer> all{{reference.name, Step(world, {&part, 1}, {Plain{}, Plain{}}, 1).run(reference, pool)}};
  const Step step(world, {&part, 1}, kv_cache_storage(DType::bf16, world.heads.dim, kAvx2), 2);
  for (const AttentionKernel& kernel : attention_kernels())
    if (runs_here(kernel.isa) && step.accepted_by(kernel) && &reference_of(kernel) == &reference)
      all.push_back({kernel.name, step.run(kernel, pool)});
  return all;
}

bool alike(const Elements& a, const Elements& b) {
  for (std::int64_t i = 0; i < a.size(); ++i)
    if (!(std::isnan(a[i]) && std::isnan(b[i])) &&
        std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]))
      return false;
  return true;
}

// One head whose rows all have the given scores, within a few millionths, and in each column the given values.
World world_of(const std::vector<float>& scores, const std::vector<float>& values, std::int64_t window = 0) {
  const auto length = static_cast<std::int64_t>(scores.size());
  World world({DType::bf16, 1, 1, kDim, window}, {length}, 1);
  Elements &q = world.q[0], &k = world.k[0], &v = world.v[0];
  for (std::int64_t i = 0; i < length * kDim; ++i) {
    q.set(i, i % kDim < 3 ? 1.0f : 0.0f);
    k.set(i, 0);
    v.set(i, values[static_cast<std::size_t>(i / kDim)]);
  }
  for (std::int64_t j = 0; j < length; ++j) {
    float rest = scores[static_cast<std::size_t>(j)] * std::sqrt(static_cast<float>(kDim));
    for (std::int64_t d = 0; d < 3; ++d) {
      k.set(j * kDim + d, rest);
      rest -= k[j * kDim + d];
    }
  }
  return world;
}

// All of the last row's columns.
void expect_last_row(const AttentionKernel& reference, const World& world, float expected) {
  for (const Answer& answer : answers(reference, world, {0, world.lengths[0] - 1, 1}))
    for (std::int64_t d = 0; d < kDim; ++d) EXPECT_EQ(answer.y[d], expected) << answer.kernel << " column " << d;
}

TEST(AttentionPairs, AreOfAbsolutePositions) {
  // Positions 3..6 are added in the order 3, 5, 4, 6: any other one would keep the 1, which 2^25 swallows.
  const AttentionKernel& pairs = *references().front();
  expect_last_row(pairs, world_of(std::vector<float>(7), {kNaN, kInf, kNaN, 0x1p25f, -0x1p25f, 1, 0.5f}, 4), 0.125f);
  // 2..5: 3, 2, 5, 4.
  expect_last_row(pairs, world_of(std::vector<float>(6), {kNaN, kInf, 1, 0x1p25f, 2, -0x1p25f}, 4), 0.5f);
}

// Values that swallow one another in every order but one, met by rows in tiles and by rows alone.
void expect_the_same_in_every_tile(const AttentionKernel& reference, std::int64_t dim) {
  constexpr float kValues[] = {0x1p25f, -0x1p25f, 1, 0.5f, 3};
  std::mt19937 engine(5);
  for (const std::int64_t window : {0, 1, 4, 7, 50})
    for (const std::int64_t group : {1, 2, 3, 4}) {
      const Heads h{DType::bf16, group, 1, dim, window};
      World world(h, {140}, 3);
      world.q[0] = Elements(DType::bf16, world.q[0].size());
      for (std::int64_t i = 0; i < world.v[0].size(); ++i) world.v[0].set(i, kValues[engine() % std::size(kValues)]);
      const std::vector<Answer> all = answers(reference, world, {0, 0, 140});
      for (const Answer& answer : all)
        EXPECT_TRUE(alike(answer.y, all[0].y)) << answer.kernel << " window " << window << " group " << group;
      for (std::int64_t row = 0; row < 140; row += 9)
        for (const Answer& alone : answers(reference, world, {0, row, 1}))
          for (std::int64_t i = 0; i < alone.y.size(); ++i)
            ASSERT_EQ(alone.y[i], all[0].y[row * group * dim + i]) << alone.kernel << " row " << row;
    }
}

TEST(AttentionPairs, AreTheSameInEveryTile) {
  for (const AttentionKernel* reference : references())
    for (const std::int64_t dim : {kDim, kTileDim}) expect_the_same_in_every_tile(*reference, dim);
}

float as_bf16(float f) { return bf16_to_float(float_to_bf16(f)); }

// exp(score) and 1 are rounded to bf16 and weigh values after that, so weights sum up to one. A score errs by millionths: what
// that could round otherwise is left out.
TEST(AttentionPairs, HaveProbabilitiesInBf16ThatSumUpToOne) {
  int asked = 0, unrounded_sums_differ = 0;
  for (int i = 1; i <= 200; ++i) {
    const float score = -0.01f * static_cast<float>(i), exact = std::exp(score), p = as_bf16(exact);
    const float y = p / (1 + p);
    if (as_bf16(exact * 0.9999f) != as_bf16(exact * 1.0001f) || as_bf16(y * 0.9999f) != as_bf16(y * 1.0001f)) continue;
    ++asked, unrounded_sums_differ += as_bf16(p / (1 + exact)) != as_bf16(y);
    for (const AttentionKernel* reference : references()) {
      expect_last_row(*reference, world_of({0, score}, {0, 1}), as_bf16(y));
      expect_last_row(*reference, world_of({score, -100, 0}, {1, 0, 0}), as_bf16(y));
    }
  }
  EXPECT_GT(asked, 100);
  EXPECT_GT(unrounded_sums_differ, 5);
}

// A probability that is denormal is zero, also where bf16 would round it up to the least normal number.
TEST(AttentionPairs, FlushDenormalProbabilities) {
  const float edge = std::log(0x1p-126f);
  for (const AttentionKernel* reference : references()) {
    int zeros = 0, others = 0;
    for (int i = -40; i <= 40; ++i) {
      const World world = world_of({0, edge + 0.0005f * static_cast<float>(i)}, {0, 0x1p126f});
      const std::vector<Answer> all = answers(*reference, world, {0, 1, 1});
      for (const Answer& answer : all) EXPECT_TRUE(alike(answer.y, all[0].y)) << answer.kernel << " " << i;
      (all[0].y[0] == 0 ? zeros : others) += 1;
      EXPECT_TRUE(all[0].y[0] == 0 || all[0].y[0] >= 1) << i;
      EXPECT_TRUE(i > -4 || all[0].y[0] == 0) << i;
    }
    EXPECT_GT(zeros, 30);
    EXPECT_GT(others, 30);
  }
}

// So is the factor of what a row had before it saw a score that is larger by 95.
TEST(AttentionPairs, FlushDenormalFactors) {
  std::vector<float> scores(65), values(65);
  values[0] = 0x1p126f, scores[64] = 95;
  for (const AttentionKernel* reference : references()) expect_last_row(*reference, world_of(scores, values), 0);
  scores[64] = 80;
  for (const AttentionKernel* reference : references())
    EXPECT_GT(answers(*reference, world_of(scores, values), {0, 64, 1})[0].y[0], 1);
}

// 2^-126 + 2^-149 - 1.5 * 2^-149 is less than the least normal number, to which a denormal's few bits would round it up.
TEST(AttentionPairs, FlushWhatIsDenormalBeforeItIsRoundedUp) {
  const float small = std::log(0x1p-23f), larger = std::log(0x1.8p-23f);
  const AttentionKernel& pairs = *references().front();
  expect_last_row(pairs, world_of({small, 0, -200, larger}, {0x1p-126f, 0x1p-126f, 0, -0x1p-126f}), 0);
  expect_last_row(pairs, world_of({small, 0, -200, small}, {0x1p-126f, 0x1p-126f, 0, -0x1p-126f}), 0x1p-126f);
}

// Every value a denormal, or sums that become denormal on the way.
void expect_agreement_on_tiny_values(const AttentionKernel& reference, std::int64_t dim) {
  for (const std::int64_t window : {0, 7}) {
    World world({DType::bf16, 6, 2, dim, window}, {150}, 3);
    for (const float scale : {1e-40f, 3e-38f, 1e-36f}) {
      for (std::int64_t i = 0; i < world.v[0].size(); ++i)
        world.v[0].set(i, std::remainder(float(i * 37 % 101), 7.0f) * scale);
      const std::vector<Answer> all = answers(reference, world, {0, 3, 147});
      for (const Answer& answer : all) EXPECT_TRUE(alike(answer.y, all[0].y)) << answer.kernel << " " << scale;
      bool some = false;
      for (std::int64_t i = 0; i < all[0].y.size(); ++i) some |= all[0].y[i] != 0;
      EXPECT_EQ(some, scale > 1e-39f);
    }
  }
}

TEST(AttentionPairs, AgreeOnTinyValues) {
  for (const AttentionKernel* reference : references())
    for (const std::int64_t dim : {kDim, kTileDim}) expect_agreement_on_tiny_values(*reference, dim);
}

// A value that is infinite or NaN reaches the rows that see it, and nobody else: not those that see the other of its pair.
void expect_reach(const AttentionKernel& reference, std::int64_t dim, const std::vector<std::int64_t>& windows,
                  const std::vector<float>& values) {
  for (const std::int64_t window : windows)
    for (const std::int64_t bad : {63, 64, 76, 77})
      for (const float value : values) {
        const Heads h{DType::bf16, 6, 2, dim, window};
        const World clean(h, {150}, 31);
        World dirty = clean;
        for (std::int64_t i = bad * h.kv * dim; i < (bad + 1) * h.kv * dim; ++i) dirty.v[0].set(i, value);
        const Part part{0, 41, 109};
        const std::vector<Answer> before = answers(reference, clean, part), after = answers(reference, dirty, part);
        for (std::size_t n = 0; n < after.size(); ++n) {
          EXPECT_TRUE(alike(after[n].y, after[0].y)) << after[n].kernel << " window " << window << " bad " << bad;
          for (std::int64_t i = 0; i < after[n].y.size(); ++i) {
            const std::int64_t position = part.past + i / (h.q * dim);
            const bool sees = position >= bad && (window == 0 || position < bad + window);
            if (sees)
              ASSERT_FALSE(std::isfinite(after[n].y[i])) << after[n].kernel;
            else
              ASSERT_EQ(after[n].y[i], before[n].y[i]) << after[n].kernel << " window " << window << " bad " << bad;
          }
        }
      }
}

TEST(AttentionPairs, ReachOnlyRowsThatSeeThem) {
  expect_reach(*references().front(), kDim, {0, 1, 8, 9, 64}, {kInf, -kInf, kNaN});
  expect_reach(*references().back(), kDim, {0, 9}, {kNaN});
  expect_reach(*references().back(), kTileDim, {0, 9}, {kNaN, -kInf});
}

// Of machines with AMX: evens and odds of 32 positions are two sums from zero, and only then added to what was there.
TEST(AttentionBlocks, AreOfAbsolutePositions) {
  const AttentionKernel& blocks = *references().back();
  std::vector<float> values(40);
  values[0] = 0x1p25f, values[1] = -0x1p25f, values[2] = 1, values[3] = 4;
  // 2^25 swallows the 1 of the evens, not the 4 of the odds.
  expect_last_row(blocks, world_of(std::vector<float>(8), {values.begin(), values.begin() + 8}), 0.5f);
  // What stands behind the 32nd is added to a sum that has lost nothing.
  values[2] = values[3] = 0, values[38] = 1;
  expect_last_row(blocks, world_of(std::vector<float>(40), values), as_bf16(1.0f / 40));
  // 31 and 33 lie in two blocks, though they are alike in a window that begins there.
  values.assign(40, 0);
  values[31] = 0x1p25f, values[32] = 1, values[33] = -0x1p25f;
  expect_last_row(blocks, world_of(std::vector<float>(40), values), 0);
  expect_last_row(blocks, world_of(std::vector<float>(40), values, 9), 0);
}

}  // namespace
}  // namespace cajal::cpu::testing
