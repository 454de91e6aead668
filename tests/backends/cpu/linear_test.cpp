#include "backends/cpu/kernels/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>

#include "backends/cpu/matrix_testing.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

struct Problem {
  LinearShape shape;
  Bytes x, plain_weight, weight, bias;

  std::int64_t x_row_bytes() const { return shape.in_features * static_cast<std::int64_t>(size_of(shape.dtype)); }
  std::int64_t y_row_bytes() const { return shape.out_features * static_cast<std::int64_t>(size_of(shape.dtype)); }
};

// Makes every sum exactly zero, the second half of k undoing the first: all that a kernel then returns is its rounding
// errors, which show the order of its sum and would otherwise hide behind the last rounding.
void cancel(const LinearShape& s, Bytes& x, Bytes& weight) {
  const std::int64_t k = s.in_features;
  const auto mirror = [&](Bytes& rows, std::int64_t row, float sign) {
    for (std::int64_t i = 0; i < k / 2; ++i) {
      const float value = load_element(rows.data(), row * k + i, s.dtype);
      store_element(rows.data(), row * k + k - 1 - i, s.dtype, sign * value);
    }
    if (k % 2) store_element(rows.data(), row * k + k / 2, s.dtype, 0.0f);
  };
  for (std::int64_t row = 0; row < s.rows; ++row) mirror(x, row, 1);
  for (std::int64_t n = 0; n < s.out_features; ++n) mirror(weight, n, -1);
}

Problem make_problem(const LinearShape& shape, Values values, bool bias, unsigned seed = 1) {
  std::mt19937 random(seed);
  Problem p{.shape = shape, .x = {}, .plain_weight = {}, .weight = {}, .bias = {}};
  p.x = random_tensor(shape.dtype, shape.rows * shape.in_features, values, random);
  p.plain_weight = random_tensor(shape.dtype, shape.out_features * shape.in_features, values, random);
  if (values == Values::cancelling) cancel(shape, p.x, p.plain_weight);
  if (bias) p.bias = random_tensor(shape.dtype, shape.out_features, values, random);
  p.weight = packed_tensor({shape.dtype, {shape.out_features, shape.in_features}, shape.storage}, p.plain_weight);
  return p;
}

// Rows [first, first + rows) of the problem.
Bytes run(const LinearKernel& kernel, const Problem& p, std::int64_t first, std::int64_t rows, ThreadPool& pool) {
  Bytes y(static_cast<std::size_t>(rows * p.y_row_bytes()));
  Bytes scratch(kernel.scratch_bytes ? kernel.scratch_bytes(p.shape, pool.size()) : 0, std::byte{0x7f});
  const Bytes x(p.x.begin() + first * p.x_row_bytes(), p.x.begin() + (first + rows) * p.x_row_bytes());
  kernel.run({.x = x.data(),
              .weight = p.weight.data(),
              .bias = p.bias.empty() ? nullptr : p.bias.data(),
              .y = y.data(),
              .rows = rows,
              .in_features = p.shape.in_features,
              .out_features = p.shape.out_features,
              .sum_parts = p.shape.sum_parts,
              .dtype = p.shape.dtype,
              .packed = tile_of(p.shape.storage),
              .scratch = scratch.data(),
              .read_once = read_in_one_way_or_the_other(p.shape.out_features)},
             pool);
  return y;
}

Bytes run(const LinearKernel& kernel, const Problem& p, ThreadPool& pool) {
  return run(kernel, p, 0, p.shape.rows, pool);
}

bool runs_here(const LinearKernel& kernel) { return (kernel.isa & ~detect_isa()) == 0; }

std::string describe(const LinearKernel& kernel, const LinearShape& s) {
  return detail::join(kernel.name, " rows ", s.rows, " K ", s.in_features, " N ", s.out_features, " parts ",
                      s.sum_parts);
}

// Every kernel that takes the shape and runs here against the reference of its class.
void expect_kernels_agree(const LinearShape& shape, Values values, bool bias, ThreadPool& pool) {
  const Problem p = make_problem(shape, values, bias);
  const auto make = [&](const LinearKernel& kernel) { return run(kernel, p, pool); };
  ByClass want(linear_kernels(), shape, make);
  for (const LinearKernel& kernel : linear_kernels()) {
    if (!runs_here(kernel) || !kernel.accepts(shape)) continue;
    if (&kernel == &linear_kernels().back()) continue;  // takes everything, of any class
    ASSERT_TRUE(same_bits(run(kernel, p, pool), want.of(kernel), shape.dtype)) << describe(kernel, shape);
  }
}

LinearShape packed_shape(DType dtype, std::int64_t rows, std::int64_t k, std::int64_t n, int parts = 1) {
  return {dtype, linear_weight_storage(dtype, detect_isa()), rows, k, n, parts};
}

class Linear : public testing::TestWithParam<DType> {
 protected:
  ThreadPool pool_{2};
};
INSTANTIATE_TEST_SUITE_P(Types, Linear, testing::Values(DType::bf16, DType::f32),
                         [](const auto& p) { return std::string(to_string(p.param)); });

TEST_P(Linear, KernelsAgreeInEveryBitForAllSizes) {
  for (const std::int64_t n : {1, 15, 16, 17, 70, 173})
    for (const std::int64_t k : {1, 2, 3, 31, 64, 100})
      for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 17, 34})
        expect_kernels_agree(packed_shape(GetParam(), rows, k, n), Values::cancelling, k == 2, pool_);
  expect_kernels_agree(packed_shape(GetParam(), 63, 100, 173), Values::cancelling, false, pool_);
  expect_kernels_agree(packed_shape(GetParam(), 3, 1024, 173), Values::cancelling, false, pool_);
  expect_kernels_agree(packed_shape(GetParam(), 10, 1024, 80), Values::cancelling, false, pool_);
}

// As many outputs for a thread as let products by tiles pack the rows.
TEST_P(Linear, KernelsAgreeInEveryBitForManyOutputs) {
  ThreadPool one(1);
  for (const int parts : {1, 8})
    for (const std::int64_t k : {48, 640})
      for (const std::int64_t rows : {5, 16, 33}) {
        expect_kernels_agree(packed_shape(GetParam(), rows, k, 517, parts), Values::spread, rows == 5, one);
        if (rows == 33)
          expect_kernels_agree(packed_shape(GetParam(), rows, k, 1040, parts), Values::cancelling, false, pool_);
      }
}

TEST_P(Linear, KernelsAgreeOnDenormalsInfinitiesAndNaNs) {
  for (const Values values : {Values::spread, Values::special})
    for (const std::int64_t k : {2, 31, 200})
      for (const std::int64_t rows : {1, 3, 8, 20})
        for (const bool bias : {false, true})
          expect_kernels_agree(packed_shape(GetParam(), rows, k, 75), values, bias, pool_);
}

TEST_P(Linear, KernelsAgreeOnSumsInParts) {
  for (const int parts : {2, 4, 8, 16, 64})
    for (const std::int64_t k : {128, 640})
      for (const std::int64_t rows : {1, 5, 8, 13, 33})
        for (const Values values : {Values::spread, Values::cancelling})
          expect_kernels_agree(packed_shape(GetParam(), rows, k, 37, parts), values, rows == 5, pool_);
}

TEST_P(Linear, ARowHasTheSameBitsAloneAndAmongOthers) {
  const std::int64_t rows = 45;
  const Problem p = make_problem(packed_shape(GetParam(), rows, 192, 100, 8), Values::cancelling, false);
  for (const LinearKernel& kernel : linear_kernels()) {
    LinearShape alone = p.shape;
    alone.rows = 1;
    if (!runs_here(kernel) || !kernel.accepts(alone)) continue;
    const LinearKernel& many = choose(linear_kernels(), p.shape, kernel.isa);
    if (std::string_view(many.numerics_class) != kernel.numerics_class) continue;
    const Bytes all = run(many, p, pool_);
    for (const std::int64_t row : {0, 7, 44}) {
      const Bytes want(all.begin() + row * p.y_row_bytes(), all.begin() + (row + 1) * p.y_row_bytes());
      ASSERT_TRUE(same_bits(run(kernel, p, row, 1, pool_), want, GetParam())) << kernel.name << " row " << row;
    }
  }
}

TEST_P(Linear, ThreadsChangeNothing) {
  const Problem p = make_problem(packed_shape(GetParam(), 70, 100, 173, 2), Values::cancelling, false);
  for (const LinearKernel& kernel : linear_kernels()) {
    if (!runs_here(kernel) || !kernel.accepts(p.shape)) continue;
    ThreadPool one(1);
    const Bytes want = run(kernel, p, one);
    for (const int threads : {2, 3}) {
      ThreadPool pool(threads);
      ASSERT_TRUE(same_bits(run(kernel, p, pool), want, GetParam())) << kernel.name << " threads " << threads;
    }
  }
}

TEST_P(Linear, ReferenceIsTheSumThatMathematicsKnows) {
  for (const Storage& storage : {Storage{Plain{}}, Storage{Packed{16, 2}}, Storage{Packed{4, 1}}}) {
    const Problem p = make_problem({GetParam(), storage, 3, 96, 21, 4}, Values::ordinary, true);
    const Bytes y = run(linear_kernels().back(), p, pool_);
    for (std::int64_t row = 0; row < 3; ++row)
      for (std::int64_t n = 0; n < 21; ++n) {
        double want = load_element(p.bias.data(), n, GetParam()), size = std::fabs(want);
        for (std::int64_t k = 0; k < 96; ++k) {
          const double term = static_cast<double>(load_element(p.x.data(), row * 96 + k, GetParam())) *
                              static_cast<double>(load_element(p.plain_weight.data(), n * 96 + k, GetParam()));
          want += term, size += std::fabs(term);
        }
        const double rounding = GetParam() == DType::bf16 ? std::fabs(want) * 0x1p-8 : 0;
        ASSERT_NEAR(load_element(y.data(), row * 21 + n, GetParam()), want, rounding + size * 0x1p-20);
      }
  }
}

TEST_P(Linear, InstructionSetThatIsAskedForIsNotExceeded) {
  const char* const old = std::getenv("CAJAL_CPU_ISA");
  const std::optional<std::string> saved = old ? std::optional<std::string>(old) : std::nullopt;
  for (const char* isa : {"baseline", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"}) {
    setenv("CAJAL_CPU_ISA", isa, 1);
    const LinearKernel& kernel = choose(linear_kernels(), packed_shape(GetParam(), 1, 64, 64), detect_isa());
    EXPECT_EQ(kernel.isa & ~detect_isa(), 0u) << isa;
    const bool is_baseline = std::string_view(kernel.name).find("baseline") != std::string_view::npos;
    EXPECT_EQ(is_baseline, (detect_isa() & kAvx2) == 0) << kernel.name;
  }
  saved ? setenv("CAJAL_CPU_ISA", saved->c_str(), 1) : unsetenv("CAJAL_CPU_ISA");
}

TEST(LinearKernels, TakeAnythingAndPreferFewRowsKernelsForFewRows) {
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const Storage& storage :
         {Storage{Plain{}}, Storage{Packed{16, 2}}, Storage{Packed{16, 1}}, Storage{Packed{4, 4}}})
      for (const std::int64_t rows : {1, 512})
        EXPECT_NE(choose(linear_kernels(), {dtype, storage, rows, 100, 50, 1}, detect_isa()).name, nullptr);
  if (detect_isa() & kAmx) {
    EXPECT_STREQ(choose(linear_kernels(), packed_shape(DType::bf16, 4, 64, 64), detect_isa()).name, "linear_bf16_amx");
  } else if (detect_isa() & kAvx512Bf16) {
    EXPECT_STREQ(choose(linear_kernels(), packed_shape(DType::bf16, 4, 64, 64), detect_isa()).name,
                 "linear_bf16_avx512_bf16_stream");
    EXPECT_STREQ(choose(linear_kernels(), packed_shape(DType::bf16, 512, 64, 64), detect_isa()).name,
                 "linear_bf16_avx512_bf16_tiles");
  }
}

TEST(LinearDeathTest, RefusesPartsThatDoNotDivideTheSum) {
  ThreadPool pool(1);
  const Problem p = make_problem(packed_shape(DType::bf16, 2, 36, 16, 8), Values::ordinary, false);
  EXPECT_DEATH(run(choose(linear_kernels(), p.shape, detect_isa()), p, pool), "a sum over 36 in 8 parts");
}

}  // namespace
}  // namespace cajal::cpu
