#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "backends/cpu/attention_fixture.h"

namespace cajal::cpu::testing {
namespace {

const KvStorage kPlain{Plain{}, Plain{}};

// A cache in 8 bits for the reference, or for the kernels of an instruction set.
KvStorage int8_storage(const Heads& h, std::uint32_t isa) {
  const Quantized wanted{.bits = 8, .group_size = static_cast<int>(h.dim), .scale_dtype = DType::f32};
  return quantized_kv_cache_storage(wanted, h.dim, isa);
}

// The storages that some kernel of the list reads, those first that the reference is compared with.
struct Alike {
  KvStorage reference;
  std::vector<KvStorage> others;
};
std::vector<Alike> classes_of(const Heads& h) {
  return {{kPlain, {kPlain, kv_cache_storage(h.dtype, h.dim, kAvx2), {Packed{16, 2}, Packed{2, 1}}}},
          {int8_storage(h, kBaseline), {int8_storage(h, kBaseline), int8_storage(h, kAvx2)}}};
}
std::vector<KvStorage> storages(const Heads& h) {
  std::vector<KvStorage> all;
  for (const Alike& alike : classes_of(h)) all.insert(all.end(), alike.others.begin(), alike.others.end());
  return all;
}
// As this machine would have it.
std::vector<KvStorage> best_storages(const Heads& h) {
  return {kv_cache_storage(h.dtype, h.dim, detect_isa()), int8_storage(h, detect_isa())};
}

// An element of softmax attention in double precision, and what its sum would be if all values were positive.
struct Exact {
  double y, mass;
};

// One row of it, straight from the definition.
std::vector<Exact> exact_row(const World& w, std::int32_t seq, std::int64_t position) {
  const Heads& h = w.heads;
  const auto s = static_cast<std::size_t>(seq);
  const std::int64_t begin = h.window > 0 ? std::max<std::int64_t>(0, position - h.window + 1) : 0;
  std::vector<Exact> y(static_cast<std::size_t>(h.q * h.dim));
  for (std::int64_t head = 0; head < h.q; ++head) {
    const std::int64_t kv = head / (h.q / h.kv);
    std::vector<double> p;
    for (std::int64_t j = begin; j <= position; ++j) {
      double score = 0;
      for (std::int64_t d = 0; d < h.dim; ++d)
        score += double{w.q[s][(position * h.q + head) * h.dim + d]} * double{w.k[s][(j * h.kv + kv) * h.dim + d]};
      p.push_back(score / std::sqrt(static_cast<double>(h.dim)));
    }
    const double most = *std::max_element(p.begin(), p.end());
    double total = 0;
    for (double& e : p) total += e = std::exp(e - most);
    for (std::int64_t d = 0; d < h.dim; ++d) {
      double sum = 0, mass = 0;
      for (std::int64_t j = begin; j <= position; ++j) {
        const double part = p[static_cast<std::size_t>(j - begin)] * double{w.v[s][(j * h.kv + kv) * h.dim + d]};
        sum += part, mass += std::abs(part);
      }
      y[static_cast<std::size_t>(head * h.dim + d)] = {sum / total, mass / total};
    }
  }
  return y;
}

void expect_equal_to_the_reference(const World& world, std::span<const Part> parts) {
  ThreadPool one(1), two(2), three(3);
  unsigned seed = 1;
  for (const Alike& alike : classes_of(world.heads))
    for (const AttentionKernel* reference : references()) {
      const Step plain(world, parts, alike.reference, seed++);
      if (!plain.accepted_by(*reference)) continue;
      const Elements expected = plain.run(*reference, two);
      for (std::int64_t i = 0; i < expected.size(); ++i) ASSERT_TRUE(std::isfinite(expected[i])) << i;
      for (const KvStorage& storage : alike.others) {
        const Step step(world, parts, storage, seed++);
        for (const AttentionKernel& kernel : attention_kernels()) {
          if (!runs_here(kernel.isa) || !step.accepted_by(kernel) || &reference_of(kernel) != reference) continue;
          for (ThreadPool* pool : {&one, &two, &three})
            EXPECT_TRUE(step.run(kernel, *pool) == expected)
                << kernel.name << " D " << world.heads.dim << " heads " << world.heads.q << "/" << world.heads.kv
                << " window " << world.heads.window << " threads " << pool->size();
        }
      }
    }
}

class Attention : public ::testing::TestWithParam<DType> {};

TEST_P(Attention, ReferenceIsSoftmaxAttention) {
  for (const std::int64_t window : {0, 1, 8, 100}) {
    const World world({GetParam(), 4, 2, 32, window}, {70, 700}, 7);
    const std::vector<Part> parts{{0, 0, 70}, {1, 690, 10}, {1, 509, 4}};
    ThreadPool pool(1);
    const bool bf16 = GetParam() == DType::bf16;
    const Step step(world, parts, kPlain, 3);
    for (const AttentionKernel* reference : references()) {
      if (!step.accepted_by(*reference)) continue;
      const Elements y = step.run(*reference, pool);
      double errors = 0, masses = 0;
      std::int64_t at = 0;
      for (const Part& part : parts)
        for (std::int64_t i = 0; i < part.rows; ++i)
          for (const Exact& exact : exact_row(world, part.seq, part.past + i)) {
            // In bf16 two roundings show, each of at most 2^-8: of every probability, and of the result.
            const double rounded = bf16 ? exact.mass * 0x1p-8 : 0;
            const double slack = bf16 ? rounded + (std::abs(exact.y) + rounded) * 0x1.01p-8 : 0;
            EXPECT_NEAR(y[at], exact.y, 2e-6 + slack) << reference->name << " window " << window;
            errors += std::pow(y[at] - exact.y, 2), masses += std::pow(exact.mass, 2);
            ++at;
          }
      // Roundings of many probabilities cancel.
      EXPECT_LT(std::sqrt(errors / masses), bf16 ? 0.0015 : 2e-7) << reference->name << " window " << window;
    }
  }
}

// What 8 bits cost: a few hundredths of the values' spread.
TEST_P(Attention, OverACacheIn8BitsIsNearlySoftmaxAttention) {
  const World world({GetParam(), 4, 2, 64}, {700}, 9);
  const std::vector<Part> parts{{0, 690, 10}};
  ThreadPool pool(1);
  const Elements y = Step(world, parts, int8_storage(world.heads, kBaseline), 3).run(*references().front(), pool);
  double squares = 0, worst = 0;
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < 10; ++i)
    for (const Exact& exact : exact_row(world, 0, 690 + i)) {
      const double error = std::abs(double{y[at++]} - exact.y);
      squares += error * error, worst = std::max(worst, error);
    }
  EXPECT_LT(std::sqrt(squares / static_cast<double>(at)), 0.01);
  EXPECT_GT(squares, 0);
  EXPECT_LT(worst, 0.05);
}

TEST_P(Attention, KernelsAgreeForEveryHeadShape) {
  const std::int64_t heads[][2] = {{1, 1}, {4, 2}, {6, 2}, {5, 5}, {16, 8}, {8, 1}, {7, 1}};
  unsigned seed = 10;
  for (const auto& [q, kv] : heads)
    for (const std::int64_t dim : {20, 24, 32, 64, 80, 128}) {
      if (q * dim > 512 && dim != 128) continue;
      const World world({GetParam(), q, kv, dim}, {9, 67, 40}, seed++);
      expect_equal_to_the_reference(world, std::vector<Part>{{0, 0, 9}, {1, 66, 1}, {2, 37, 3}});
    }
}

TEST_P(Attention, KernelsAgreeForEveryLength) {
  const World world({GetParam(), 2, 1, 20}, {70}, 11);
  expect_equal_to_the_reference(world, std::vector<Part>{{0, 0, 70}});
  for (const std::int64_t length : {63, 64, 65, 255, 256, 257, 511, 512, 513, 700}) {
    const World one({GetParam(), 4, 2, 24}, {length}, static_cast<unsigned>(length));
    expect_equal_to_the_reference(one, std::vector<Part>{{0, length - 1, 1}});
    expect_equal_to_the_reference(one, std::vector<Part>{{0, length - 40, 40}});
    if (GetParam() == DType::f32 || length < 255) continue;
    const World of_tiles({GetParam(), 2, 1, 32}, {length}, static_cast<unsigned>(length));
    expect_equal_to_the_reference(of_tiles, std::vector<Part>{{0, length - 41, 41}});
  }
}

TEST_P(Attention, KernelsAgreeForEverySlidingWindow) {
  for (const std::int64_t window : {1, 7, 8, 64, 65, 100}) {
    const World world({GetParam(), 4, 2, 32, window}, {700, 130}, static_cast<unsigned>(window));
    expect_equal_to_the_reference(world, std::vector<Part>{{0, 480, 70}, {1, 0, 130}});
    expect_equal_to_the_reference(world, std::vector<Part>{{0, 699, 1}, {1, 129, 1}});
  }
}

TEST_P(Attention, KernelsAgreeOnLongContexts) {
  const World world({GetParam(), 4, 2, 32}, {3000, 40, 1100}, 5);
  expect_equal_to_the_reference(world, std::vector<Part>{{0, 2999, 1}});
  expect_equal_to_the_reference(world, std::vector<Part>{{0, 2990, 3}, {1, 39, 1}, {2, 1020, 8}});
}

// More threads than work: contexts are cut into chunks that run in waves, some longer than a wave.
TEST_P(Attention, ManyThreadsShareFewRows) {
  ThreadPool one(1);
  for (const std::int64_t window : {0, 900}) {
    const World world({GetParam(), 2, 1, 20, window}, {7300, 600, 1500}, 6);
    for (const std::vector<Part>& parts :
         {std::vector<Part>{{0, 7299, 1}, {2, 1499, 1}}, std::vector<Part>{{1, 0, 20}, {0, 7290, 9}, {2, 1490, 10}}}) {
      for (const KvStorage& storage : best_storages(world.heads)) {
        const Step step(world, parts, storage, 8);
        std::map<const AttentionKernel*, Elements> expected;
        for (const AttentionKernel* reference : references())
          if (step.accepted_by(*reference)) expected[reference] = step.run(*reference, one);
        for (const int threads : {2, 3, 5, 16}) {
          ThreadPool pool(threads);
          for (const AttentionKernel& kernel : attention_kernels()) {
            if (!runs_here(kernel.isa) || !step.accepted_by(kernel)) continue;
            EXPECT_TRUE(step.run(kernel, pool) == expected.at(&reference_of(kernel)))
                << kernel.name << " threads " << threads;
          }
        }
      }
    }
  }
}

TEST_P(Attention, RowsDoNotDependOnTheStepTheyAreIn) {
  for (const std::int64_t window : {0, 50}) {
    const Heads h{GetParam(), 6, 2, 64, window};
    const World world(h, {600, 90, 33}, 21);
    const std::vector<Part> all{{1, 89, 1}, {0, 430, 170}, {2, 0, 33}};
    ThreadPool pool(2), alone(1);
    const std::int64_t columns = h.q * h.dim;
    for (const KvStorage& storage : best_storages(h)) {
      const Step step(world, all, storage, 5);
      for (const AttentionKernel& kernel : attention_kernels()) {
        if (!runs_here(kernel.isa) || !step.accepted_by(kernel) || kernel.isa == kBaseline) continue;
        const Elements together = step.run(kernel, pool);
        std::int64_t first = 0;
        for (const Part& part : all) {
          for (const std::int64_t chunk : {1, 7, 64}) {
            for (std::int64_t i = 0; i < part.rows; i += chunk) {
              if (chunk == 1 && i % 13 != 0) continue;
              const Part some{part.seq, part.past + i, std::min(chunk, part.rows - i)};
              const Elements y = Step(world, {&some, 1}, storage, 6).run(kernel, alone);
              for (std::int64_t c = 0; c < y.size(); ++c)
                ASSERT_EQ(y[c], together[(first + i) * columns + c]) << kernel.name << " position " << some.past;
            }
          }
          first += part.rows;
        }
      }
    }
  }
}

TEST_P(Attention, LaterPositionsCannotReachEarlierRows) {
  const Heads h{GetParam(), 4, 2, 32};
  const World clean(h, {150}, 31);
  World dirty = clean;
  const std::int64_t bad = 77, columns = h.kv * h.dim;
  for (std::int64_t i = bad * columns; i < (bad + 1) * columns; ++i) {
    dirty.k[0].set(i, std::numeric_limits<float>::quiet_NaN());
    dirty.v[0].set(i, std::numeric_limits<float>::infinity());
  }
  ThreadPool pool(2);
  const std::vector<Part> all{{0, 0, 150}};
  for (const KvStorage& storage : storages(h))
    for (const AttentionKernel& kernel : attention_kernels()) {
      const Step before(clean, all, storage, 1), after(dirty, all, storage, 1);
      if (!runs_here(kernel.isa) || !before.accepted_by(kernel)) continue;
      const Elements expected = before.run(kernel, pool), got = after.run(kernel, pool);
      for (std::int64_t i = 0; i < bad * h.q * h.dim; ++i) ASSERT_EQ(got[i], expected[i]) << kernel.name << " " << i;
      EXPECT_TRUE(std::isnan(got[bad * h.q * h.dim])) << kernel.name;
    }
}

TEST_P(Attention, DenormalsAndLargeScoresAgree) {
  const Heads h{GetParam(), 2, 1, 32};
  World world(h, {100}, 41);
  for (std::int64_t i = 0; i < world.k[0].size(); ++i) {
    if (i % 3 == 0) world.k[0].set(i, world.k[0][i] * 1e-39f);
    if (i % 7 == 0) world.k[0].set(i, world.k[0][i] * 100);
  }
  for (std::int64_t i = 0; i < world.q[0].size(); ++i)
    if (i / (h.q * h.dim) % 2 == 0) world.q[0].set(i, world.q[0][i] * 1e-30f);
  expect_equal_to_the_reference(world, std::vector<Part>{{0, 0, 100}});
}

INSTANTIATE_TEST_SUITE_P(Types, Attention, ::testing::Values(DType::bf16, DType::f32),
                         [](const auto& param) { return to_string(param.param); });

TEST(AttentionScratch, GrowsWithThreadsAndNotWithTheContext) {
  for (const AttentionKernel& kernel : attention_kernels()) {
    if (!kernel.scratch_bytes) continue;
    AttentionShape shape{DType::bf16, Packed{64, 2}, Plain{}, 512, 16, 8, 128, 64, 10, 0};
    const std::size_t small = kernel.scratch_bytes(shape, 8);
    shape.max_blocks_per_seq = 4096;
    EXPECT_EQ(kernel.scratch_bytes(shape, 8), small) << kernel.name;
    // Kernels that take a chunk at a time keep its values, scores and probabilities for each thread, and larger tiles.
    const bool by_chunks = &reference_of(kernel) == references().back();
    EXPECT_LE(small, 8 * std::size_t{by_chunks ? 640u : 256u} << 10) << kernel.name;
  }
}

TEST(KvWrite, KernelsStoreWhatTheReferenceStores) {
  std::mt19937 engine(3);
  ThreadPool pool(3);
  const std::vector<Storage> tiles = {Plain{},       Packed{64, 2}, Packed{64, 1},
                                      Packed{16, 2}, Packed{2, 1},  Packed{16, 4}};
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const Storage& storage : tiles)
      for (const std::int64_t dim : {20, 32, 127, 128}) {
        const std::int64_t rows = 150, kv_heads = 3, block = 64, blocks = 6;
        std::vector<std::int32_t> slots(static_cast<std::size_t>(block * blocks));
        for (std::size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<std::int32_t>(i);
        std::shuffle(slots.begin(), slots.end(), engine);
        const Elements x = Elements::random(dtype, rows * kv_heads * dim, engine);
        const Packed packed = cache_tile(storage);
        const std::int64_t padded = (dim + packed.group - 1) / packed.group * packed.group;
        const Elements empty(dtype, blocks * kv_heads * block * padded, 0.5f);
        Elements expected = empty;
        KvWriteArgs args{expected.data(), x.data(), slots.data(), rows, kv_heads, dim, block, dtype, packed};
        kv_write_kernels().back().run(args, pool);
        for (const KvWriteKernel& kernel : kv_write_kernels()) {
          if (!kernel.accepts({dtype, storage, dim, block})) continue;
          Elements cache = empty;
          args.cache = cache.data();
          kernel.run(args, pool);
          EXPECT_TRUE(cache == expected) << kernel.name << " " << packed.rows << "x" << packed.group << " D " << dim;
        }
      }
}

}  // namespace
}  // namespace cajal::cpu::testing
