// Linear and Embedding over quantised weights.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>

#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/matrix_testing.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

struct Problem {
  LinearShape shape;
  bool partial = false;
  Bytes x, plain_weight, weight, bias;
};

struct Format {
  int bits, group;
};
constexpr Format kFormats[] = {{8, 32}, {8, 128}, {4, 32}, {4, 128}};

LinearShape shape_of(DType dtype, const Format& f, std::int64_t rows, std::int64_t k, std::int64_t n, int parts = 1) {
  return {dtype, quantized_weight_storage({.bits = f.bits, .group_size = f.group}), rows, k, n, parts};
}

Problem make_problem(const LinearShape& s, Values values, bool bias) {
  std::mt19937 random(1);
  Problem p{.shape = s, .x = random_tensor(s.dtype, s.rows * s.in_features, values, random)};
  p.plain_weight = random_tensor(s.dtype, s.out_features * s.in_features, Values::ordinary, random);
  if (bias) p.bias = random_tensor(s.dtype, s.out_features, values, random);
  p.weight = packed_tensor({s.dtype, {s.out_features, s.in_features}, s.storage}, p.plain_weight);
  return p;
}

std::int64_t row_bytes(const Problem& p, std::int64_t columns) {
  return columns * static_cast<std::int64_t>(size_of(p.shape.dtype));
}

Bytes run(const LinearKernel& kernel, const Problem& p, std::int64_t first, std::int64_t rows, ThreadPool& pool) {
  Bytes y(static_cast<std::size_t>(rows * p.shape.out_features) * size_of(p.partial ? DType::f32 : p.shape.dtype));
  const std::int64_t x_row = row_bytes(p, p.shape.in_features);
  const Bytes x(p.x.begin() + first * x_row, p.x.begin() + (first + rows) * x_row);
  Bytes scratch(kernel.scratch_bytes(p.shape, pool.size()));
  kernel.run({.x = x.data(),
              .weight = p.weight.data(),
              .bias = p.bias.empty() ? nullptr : p.bias.data(),
              .y = y.data(),
              .rows = rows,
              .in_features = p.shape.in_features,
              .out_features = p.shape.out_features,
              .sum_parts = p.shape.sum_parts,
              .dtype = p.shape.dtype,
              .packed = {},
              .quantized = std::get<Quantized>(p.shape.storage),
              .scratch = scratch.data(),
              .partial = p.partial,
              .read_once = read_in_one_way_or_the_other(p.shape.out_features)},
             pool);
  return y;
}

Bytes run(const LinearKernel& kernel, const Problem& p, ThreadPool& pool) {
  return run(kernel, p, 0, p.shape.rows, pool);
}

std::vector<const LinearKernel*> kernels_for(const LinearShape& s) {
  std::vector<const LinearKernel*> found;
  for (const LinearKernel& kernel : linear_kernels())
    if ((kernel.isa & ~detect_isa()) == 0 && kernel.accepts(s)) found.push_back(&kernel);
  return found;
}

void expect_kernels_agree(const LinearShape& s, Values values, bool bias, ThreadPool& pool, bool partial = false) {
  Problem p = make_problem(s, values, bias);
  p.partial = partial;
  const auto kernels = kernels_for(s);
  const LinearKernel& reference = reference_of(linear_kernels(), s);
  const Bytes want = run(reference, p, pool);
  for (const LinearKernel* kernel : kernels) {
    EXPECT_STREQ(kernel->numerics_class, reference.numerics_class);
    ASSERT_TRUE(same_bits(run(*kernel, p, pool), want, partial ? DType::f32 : s.dtype))
        << kernel->name << " rows " << s.rows << " K " << s.in_features << " N " << s.out_features << " parts "
        << s.sum_parts << " as " << to_string(TensorType{s.dtype, {s.out_features, s.in_features}, s.storage});
  }
}

class QuantLinear : public testing::TestWithParam<DType> {
 protected:
  ThreadPool pool_{2};
};
INSTANTIATE_TEST_SUITE_P(Types, QuantLinear, testing::Values(DType::bf16, DType::f32),
                         [](const auto& p) { return std::string(to_string(p.param)); });

TEST_P(QuantLinear, KernelsAgreeInEveryBitForAllSizes) {
  for (const Format& f : kFormats) {
    for (const std::int64_t n : {1, 16, 33, 173})
      for (const std::int64_t k : {1, 31, 128, 200})
        for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 13})
          expect_kernels_agree(shape_of(GetParam(), f, rows, k, n), Values::ordinary, k == 31, pool_);
    expect_kernels_agree(shape_of(GetParam(), f, 63, 160, 173), Values::ordinary, false, pool_);
    expect_kernels_agree(shape_of(GetParam(), f, 2, 1024, 300), Values::ordinary, true, pool_);
  }
}

// Kernels with tiles take rows by panels of 16, 16 panels at a time, and columns by stretches of 512 and 2048.
TEST_P(QuantLinear, KernelsAgreeOnManyRowsAndColumns) {
  ThreadPool one(1);  // has all panels in one piece
  for (const Format& f : kFormats) {
    for (const std::int64_t rows : {15, 16, 17, 31, 48, 49, 64, 70})
      expect_kernels_agree(shape_of(GetParam(), f, rows, 300, 40), Values::ordinary, rows == 17, pool_);
    for (const std::int64_t rows : {20, 70})
      expect_kernels_agree(shape_of(GetParam(), f, rows, 2300, 33), Values::ordinary, false, pool_);
    expect_kernels_agree(shape_of(GetParam(), f, 270, 100, 40), Values::special, true, pool_);
    for (const Values values : {Values::ordinary, Values::spread})
      expect_kernels_agree(shape_of(GetParam(), f, 65, 1280, 130, 2), values, true, one);
  }
}

TEST_P(QuantLinear, KernelsAgreeOnPartialSums) {
  for (const Format& f : kFormats)
    for (const std::int64_t rows : {1, 7, 50})
      for (const Values values : {Values::ordinary, Values::special})
        expect_kernels_agree(shape_of(GetParam(), f, rows, 384, 37, 4), values, false, pool_, true);
}

TEST_P(QuantLinear, KernelsAgreeOnDenormalsInfinitiesAndNaNs) {
  for (const Format& f : kFormats)
    for (const Values values : {Values::spread, Values::special})
      for (const std::int64_t rows : {1, 3, 20})
        expect_kernels_agree(shape_of(GetParam(), f, rows, 200, 75), values, rows == 3, pool_);
}

TEST_P(QuantLinear, KernelsAgreeOnSumsInParts) {
  for (const Format& f : kFormats)
    for (const int parts : {2, 8, 64})
      for (const std::int64_t k : {128, 384, 640})  // parts end within groups
        for (const std::int64_t rows : {1, 8, 40})
          expect_kernels_agree(shape_of(GetParam(), f, rows, k, 37, parts), Values::ordinary, rows == 1, pool_);
}

TEST_P(QuantLinear, ARowHasTheSameBitsAloneAndAmongOthers) {
  for (const Format& f : kFormats) {
    const Problem p = make_problem(shape_of(GetParam(), f, 45, 384, 100, 8), Values::ordinary, false);
    for (const LinearKernel* kernel : kernels_for(p.shape)) {
      const Bytes all = run(*kernel, p, pool_);
      const std::int64_t y_row = row_bytes(p, p.shape.out_features);
      for (const std::int64_t row : {0, 7, 44}) {
        const Bytes want(all.begin() + row * y_row, all.begin() + (row + 1) * y_row);
        ASSERT_TRUE(same_bits(run(*kernel, p, row, 1, pool_), want, GetParam())) << kernel->name << " row " << row;
      }
    }
  }
}

TEST_P(QuantLinear, ThreadsChangeNothing) {
  for (const Format& f : kFormats) {
    const Problem p = make_problem(shape_of(GetParam(), f, 70, 256, 373, 2), Values::ordinary, false);
    for (const LinearKernel* kernel : kernels_for(p.shape)) {
      ThreadPool one(1), three(3);
      ASSERT_EQ(run(*kernel, p, one), run(*kernel, p, three)) << kernel->name;
    }
  }
}

TEST_P(QuantLinear, IsNearTheProductOfTheRoundedWeights) {
  for (const Format& f : kFormats) {
    const LinearShape s = shape_of(GetParam(), f, 3, 256, 40);
    const Problem p = make_problem(s, Values::ordinary, true);
    Bytes weight(p.plain_weight.size());
    unpack_rows({s.dtype, {40, 256}, s.storage}, 0, 40, p.weight.data(), weight.data());
    const Bytes y = run(*kernels_for(s).front(), p, pool_);
    for (std::int64_t i = 0; i < 3 * 40; ++i) {
      double want = load_element(p.bias.data(), i % 40, s.dtype);
      for (std::int64_t k = 0; k < 256; ++k)
        want += static_cast<double>(load_element(p.x.data(), i / 40 * 256 + k, s.dtype)) *
                static_cast<double>(load_element(weight.data(), i % 40 * 256 + k, s.dtype));
      // Activations err by up to 1/127 of the largest of their group, at random; weights unpacked to bf16 err too.
      ASSERT_NEAR(load_element(y.data(), i, s.dtype), want, 0.8) << f.bits << ' ' << f.group;
    }
  }
}

// x of one problem, element by element.
template <class Element>
Problem with_x(Problem p, Element element) {
  for (std::int64_t i = 0; i < p.shape.rows * p.shape.in_features; ++i)
    store_element(p.x.data(), i, p.shape.dtype, element(i, load_element(p.x.data(), i, p.shape.dtype)));
  return p;
}

// An integer of activations stands for a power of two, so powers of two pass through the product unrounded.
TEST_P(QuantLinear, ActivationsTimesAPowerOfTwoGiveTheResultTimesIt) {
  for (const Format& f : kFormats) {
    const Problem p = make_problem(shape_of(GetParam(), f, 7, 200, 45, 2), Values::ordinary, false);
    const LinearKernel& kernel = *kernels_for(p.shape).front();
    const Bytes want = run(kernel, p, pool_);
    for (const int power : {-50, -7, -1, 1, 6, 50}) {
      const Problem scaled = with_x(p, [&](auto, float v) { return std::ldexp(v, power); });
      const Bytes y = run(kernel, scaled, pool_);
      for (std::int64_t i = 0; i < 7 * 45; ++i)
        ASSERT_EQ(load_element(y.data(), i, GetParam()), std::ldexp(load_element(want.data(), i, GetParam()), power))
            << "element " << i << ", 2^" << power << ", " << f.bits << ' ' << f.group;
    }
  }
}

// Groups of zeros have a scale of one, and kernels nothing to take care of.
TEST_P(QuantLinear, WeightsOfZeroGiveZeroWhateverTheActivations) {
  for (const Format& f : kFormats) {
    Problem p = make_problem(shape_of(GetParam(), f, 2, 128, 33), Values::ordinary, false);
    for (const float zero : {0.0f, -0.0f}) {
      for (std::int64_t i = 0; i < 33 * 128; ++i) store_element(p.plain_weight.data(), i, GetParam(), zero);
      p.weight = packed_tensor({GetParam(), {33, 128}, p.shape.storage}, p.plain_weight);
      for (int power = -70; power < 63; ++power) {
        const Problem scaled = with_x(p, [&](auto i, float) { return std::ldexp(i % 3 == 0 ? -1.5f : 1.0f, power); });
        for (const LinearKernel* kernel : kernels_for(p.shape)) {
          const Bytes y = run(*kernel, scaled, pool_);
          for (std::int64_t i = 0; i < 2 * 33; ++i)
            ASSERT_EQ(load_element(y.data(), i, GetParam()), 0.0f) << kernel->name << ", x about 2^" << power;
        }
      }
    }
  }
}

TEST_P(QuantLinear, ActivationsOfTwoToThe64CountAsInfinite) {
  for (const Format& f : kFormats) {
    const Problem p = make_problem(shape_of(GetParam(), f, 8, 200, 33), Values::ordinary, true);
    const auto with = [&](float large) {
      return with_x(p, [&](auto i, float v) { return i == 2 * 200 + 150 ? large : v; });
    };
    for (const LinearKernel* kernel : kernels_for(p.shape)) {
      const Bytes plain = run(*kernel, p, pool_), finite = run(*kernel, with(0x1.fp63f), pool_),
                  infinite = run(*kernel, with(-0x1p64f), pool_);
      for (std::int64_t i = 0; i < 8 * 33; ++i) {
        const float y = load_element(infinite.data(), i, GetParam());
        ASSERT_TRUE(std::isfinite(load_element(finite.data(), i, GetParam()))) << kernel->name;
        if (i / 33 == 2)
          ASSERT_TRUE(std::isnan(y)) << kernel->name;
        else
          ASSERT_EQ(y, load_element(plain.data(), i, GetParam())) << kernel->name;
      }
    }
  }
}

// 127.5 times the power is the first magnitude that would round to 128.
TEST_P(QuantLinear, TheLargestActivationsFitInEightBits) {
  const float below = GetParam() == DType::bf16 ? 127.0f : std::nextafter(127.5f, 0.0f);
  for (const Format& f : kFormats)
    for (const float largest : {1.0f, 1.9375f, 127.0f, below, 127.5f, 128.0f, 255.0f}) {
      Problem p = make_problem(shape_of(GetParam(), f, 2, 32, 33), Values::ordinary, false);
      for (std::int64_t i = 0; i < 33 * 32; ++i) store_element(p.plain_weight.data(), i, GetParam(), -1.0f);
      p.weight = packed_tensor({GetParam(), {33, 32}, p.shape.storage}, p.plain_weight);
      p = with_x(p, [&](auto i, float) { return i % 32 != 5 ? 0.0f : i < 32 ? largest : -largest; });
      for (const LinearKernel* kernel : kernels_for(p.shape)) {
        const Bytes y = run(*kernel, p, pool_);
        EXPECT_NEAR(load_element(y.data(), 0, GetParam()) / -largest, 1, 0.01) << kernel->name << ' ' << largest;
        EXPECT_NEAR(load_element(y.data(), 33, GetParam()) / largest, 1, 0.01) << kernel->name << ' ' << largest;
      }
    }
}

TEST(QuantLinear, RefusesFormatsWithoutKernels) {
  EXPECT_THROW(quantized_weight_storage({.bits = 5}), Error);
  EXPECT_THROW(quantized_weight_storage({.bits = 8, .group_size = 64}), Error);
  EXPECT_THROW(quantized_weight_storage({.bits = 8, .group_size = 32, .scale_dtype = DType::f32}), Error);
}

TEST(QuantEmbedding, GivesTheRowsThatUnpackingGives) {
  ThreadPool pool(2);
  std::mt19937 random(1);
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const Format& f : kFormats)
      for (const int tile : {1, 32}) {
        const Quantized storage{.bits = f.bits, .group_size = f.group, .tile_rows = tile};
        const TensorType type{dtype, {45, 200}, storage};
        const Bytes table = packed_tensor(type, random_tensor(dtype, 45 * 200, Values::ordinary, random));
        Bytes all(45 * 200 * size_of(dtype));
        unpack_rows(type, 0, 45, table.data(), all.data());
        std::vector<std::int32_t> ids(45);
        std::iota(ids.begin(), ids.end(), 0);
        Bytes y(all.size());
        const EmbeddingKernel& kernel = choose(embedding_kernels(), {dtype, type.storage}, detect_isa());
        kernel.run({.table = table.data(),
                    .ids = ids.data(),
                    .y = y.data(),
                    .rows = 45,
                    .vocab_size = 45,
                    .hidden_size = 200,
                    .dtype = dtype,
                    .packed = {},
                    .quantized = *type.quantized()},
                   pool);
        EXPECT_EQ(y, all);
      }
}

}  // namespace
}  // namespace cajal::cpu
