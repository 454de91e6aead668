#include <gtest/gtest.h>

#include <string_view>

#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/matrix_testing.h"
#include "base/thread_pool.h"
#include "tensor/lossless.h"

namespace cajal::cpu {
namespace {

struct Problem {
  LinearShape shape;
  Bytes x, weight, bias;  // the weight plain
};

// Weights around 1 and, in every tile, some of arbitrary bits, which its 16 high bytes lack.
Bytes weights_with_escapes(std::int64_t n, std::int64_t k, bool arbitrary, std::mt19937& random) {
  Bytes weights = random_tensor(DType::bf16, n * k, Values::ordinary, random);
  const std::int64_t some = arbitrary ? LosslessLayout{n, k}.max_escapes() / 4 : 0;
  for (std::int64_t tile = 0; tile < n; tile += 16)
    for (std::int64_t i = 0; i < some; ++i) {
      const auto bits = static_cast<std::uint16_t>(random());
      const std::int64_t at =
          (tile + static_cast<std::int64_t>(random() % 16) % (n - tile)) * k + static_cast<std::int64_t>(random()) % k;
      std::memcpy(weights.data() + at * 2, &bits, sizeof bits);
    }
  return weights;
}

Problem make_problem(std::int64_t rows, std::int64_t k, std::int64_t n, int parts, bool arbitrary) {
  std::mt19937 random(static_cast<unsigned>(rows * 1000 + k));
  Problem p{{DType::bf16, Lossless{}, rows, k, n, parts}, {}, {}, {}};
  p.x = random_tensor(DType::bf16, rows * k, Values::ordinary, random);
  p.weight = weights_with_escapes(n, k, arbitrary, random);
  if (rows % 2) p.bias = random_tensor(DType::bf16, n, Values::ordinary, random);
  return p;
}

// With the problem's weight stored as `storage` says. Sums as they are show every bit; rounded ones those of the bias too.
Bytes run(const LinearKernel& kernel, const Problem& p, const Storage& storage, bool partial, ThreadPool& pool) {
  LinearShape shape = p.shape;
  shape.storage = storage;
  const std::int64_t n = shape.out_features, k = shape.in_features;
  const Bytes weight = packed_tensor({DType::bf16, {n, k}, storage}, p.weight);
  Bytes y(static_cast<std::size_t>(shape.rows * n) * size_of(partial ? DType::f32 : DType::bf16));
  Bytes scratch(kernel.scratch_bytes ? kernel.scratch_bytes(shape, pool.size()) : 0);
  kernel.run({.x = p.x.data(),
              .weight = weight.data(),
              .bias = p.bias.empty() || partial ? nullptr : p.bias.data(),
              .y = y.data(),
              .rows = shape.rows,
              .in_features = k,
              .out_features = n,
              .sum_parts = shape.sum_parts,
              .dtype = DType::bf16,
              .packed = tile_of(storage),
              .scratch = scratch.data(),
              .partial = partial,
              .read_once = read_in_one_way_or_the_other(n)},
             pool);
  return y;
}

// Every kernel that reads lossless weights here against what the same weights give packed.
void expect_bits_of_packed(const Problem& p, ThreadPool& pool) {
  LinearShape packed = p.shape;
  packed.storage = linear_weight_storage(DType::bf16, detect_isa());
  for (const bool partial : {false, true}) {
    const auto make = [&](const LinearKernel& kernel) { return run(kernel, p, packed.storage, partial, pool); };
    ByClass want(linear_kernels(), packed, make);
    int met = 0;
    for (const LinearKernel& kernel : linear_kernels()) {
      if ((kernel.isa & ~detect_isa()) || !kernel.accepts(p.shape)) continue;
      ++met;
      ASSERT_TRUE(
          same_bits(run(kernel, p, Lossless{}, partial, pool), want.of(kernel), partial ? DType::f32 : DType::bf16))
          << kernel.name << " rows " << p.shape.rows << " K " << p.shape.in_features << " N " << p.shape.out_features
          << " parts " << p.shape.sum_parts;
    }
    EXPECT_GE(met, 1);
  }
}

TEST(LosslessLinear, GivesTheBitsOfPackedWeightsForAllSizes) {
  ThreadPool pool(2);
  for (const std::int64_t n : {1, 15, 16, 17, 70, 173})
    for (const std::int64_t k : {1, 2, 3, 6, 8, 31, 64, 100})
      for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 40})
        expect_bits_of_packed(make_problem(rows, k, n, 1, k > 3), pool);
  for (const std::int64_t rows : {1, 3, 10, 300}) expect_bits_of_packed(make_problem(rows, 1024, 173, 1, true), pool);
}

TEST(LosslessLinear, GivesTheBitsOfPackedWeightsForSumsInParts) {
  ThreadPool pool(2);
  for (const int parts : {2, 8, 64})
    for (const std::int64_t k : {128, 384, 640})
      for (const std::int64_t rows : {1, 5, 8, 13, 100})
        expect_bits_of_packed(make_problem(rows, k, 37, parts, true), pool);
}

TEST(LosslessLinear, ThreadsChangeNothing) {
  const Problem p = make_problem(100, 104, 300, 2, true);
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    expect_bits_of_packed(p, pool);
  }
}

TEST(LosslessLinear, RunsOnKernelsOfItsOwnWhereThereAreAny) {
  if (!(detect_isa() & kAvx512Bf16)) GTEST_SKIP() << "no AVX512-BF16 here";
  if (detect_isa() & kAmx) GTEST_SKIP() << "AMX takes them by its own kernel";
  const auto name = [](std::int64_t rows) {
    return std::string_view(choose(linear_kernels(), {DType::bf16, Lossless{}, rows, 64, 64, 1}, detect_isa()).name);
  };
  EXPECT_EQ(name(4), "linear_lossless_avx512_bf16_stream");
  EXPECT_EQ(name(512), "linear_lossless_avx512_bf16_tiles");
}

}  // namespace
}  // namespace cajal::cpu
