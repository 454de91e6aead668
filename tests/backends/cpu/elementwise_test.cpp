#include "backends/cpu/kernels/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backends/cpu/attention_fixture.h"

namespace cajal::cpu::testing {
namespace {

const std::int64_t kColumns[] = {1, 2, 7, 8, 15, 16, 17, 24, 31, 63, 64, 65, 80, 100, 127, 128, 129, 500, 1024, 2049};
const std::int64_t kHeadDims[] = {2, 4, 20, 24, 32, 36, 64, 80, 96, 128, 256, 512};

class RowWise : public ::testing::TestWithParam<DType> {
 protected:
  // Values of very different sizes, some of them zero or denormal.
  Elements random(std::int64_t count, float scale = 1) {
    Elements x = Elements::random(GetParam(), count, engine_, scale);
    for (std::int64_t i = 0; i < count; i += 1 + engine_() % 61)
      x.set(i, i % 4 == 0 ? 0.0f : x[i] * (i % 4 == 1 ? 1e-39f : i % 4 == 2 ? 1e-4f : 30.0f));
    return x;
  }
  Elements output(std::int64_t count) const {
    return Elements(GetParam(), count, std::numeric_limits<float>::quiet_NaN());
  }

  // Runs every kernel that can, on 1, 2 and 3 threads, and expects the bytes of the last. run(kernel, pool) -> output.
  template <class K, class Run>
  void expect_agreement(std::span<const K> kernels, std::int64_t size, Run&& run) {
    const auto expected = run(kernels.back(), pools_[0]);
    for (const K& kernel : kernels) {
      if (!runs_here(kernel.isa)) continue;
      for (ThreadPool& pool : pools_)
        EXPECT_TRUE(run(kernel, pool) == expected) << kernel.name << " of " << size << ", threads " << pool.size();
    }
  }
  float round(float f) const { return GetParam() == DType::f32 ? f : bf16_to_float(float_to_bf16(f)); }
  // What one rounding to the type may be off by, relatively.
  double epsilon() const { return GetParam() == DType::f32 ? 0x1p-23 : 0x1.01p-8; }

  std::mt19937 engine_{17};
  ThreadPool pools_[3]{ThreadPool(1), ThreadPool(2), ThreadPool(3)};
};

TEST_P(RowWise, RmsNormKernelsAgree) {
  for (const std::int64_t columns : kColumns) {
    const std::int64_t rows = std::min<std::int64_t>(50, 1 + 60000 / columns);
    const Elements x = random(rows * columns), weight = random(columns);
    expect_agreement(rms_norm_kernels(), columns, [&](const RmsNormKernel& kernel, ThreadPool& pool) {
      Elements y = output(rows * columns);
      kernel.run({x.data(), weight.data(), y.data(), rows, columns, 1e-6f, GetParam()}, pool);
      return y;
    });
  }
}

TEST_P(RowWise, RmsNormIsTheDefinition) {
  for (const std::int64_t columns : kColumns) {
    const Elements x = random(columns), weight = random(columns);
    Elements y = output(columns);
    rms_norm_kernels().back().run({x.data(), weight.data(), y.data(), 1, columns, 1e-6f, GetParam()}, pools_[0]);
    double squares = 0;
    for (std::int64_t i = 0; i < columns; ++i) squares += double{x[i]} * double{x[i]};
    const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + double{1e-6f});
    for (std::int64_t i = 0; i < columns; ++i) {
      const double expected = double{x[i]} * factor * double{weight[i]};
      EXPECT_NEAR(y[i], expected, std::abs(expected) * (4 * epsilon()) + 1e-37) << columns;
    }
  }
}

TEST_P(RowWise, AddAndItsRegionAgree) {
  for (const std::int64_t columns : kColumns) {
    const std::int64_t rows = 1 + 40000 / columns, count = rows * columns;
    const Elements a = random(count), b = random(count), weight = random(columns);
    expect_agreement(add_kernels(), columns, [&](const AddKernel& kernel, ThreadPool& pool) {
      Elements y = output(count);
      kernel.run({a.data(), b.data(), y.data(), rows, columns, GetParam()}, pool);
      EXPECT_EQ(y[count - 1], round(a[count - 1] + b[count - 1]));
      return y;
    });
    Elements sum = output(count), y = output(count);
    add_kernels().back().run({a.data(), b.data(), sum.data(), rows, columns, GetParam()}, pools_[0]);
    rms_norm_kernels().back().run({sum.data(), weight.data(), y.data(), rows, columns, 1e-5f, GetParam()}, pools_[0]);
    for (const AddRmsNormKernel& kernel : add_rms_norm_kernels()) {
      if (!runs_here(kernel.isa)) continue;
      for (ThreadPool& pool : pools_) {
        Elements in_place = a, normed = output(count);
        kernel.run({in_place.data(), b.data(), weight.data(), in_place.data(), normed.data(), rows, columns, 1e-5f,
                    GetParam()},
                   pool);
        EXPECT_TRUE(in_place == sum && normed == y) << kernel.name << " of " << columns;
      }
    }
  }
}

TEST_P(RowWise, SiluMulKernelsAgreeOnHalvesToo) {
  for (const std::int64_t columns : kColumns)
    for (const std::int64_t stride : {columns, 2 * columns + 3}) {
      const std::int64_t rows = 1 + 9000 / columns;
      const Elements x = random(rows * stride + columns, 8);
      const std::byte* up = x.data() + columns * static_cast<std::int64_t>(size_of(GetParam()));
      expect_agreement(silu_mul_kernels(), columns, [&](const SiluMulKernel& kernel, ThreadPool& pool) {
        Elements y = output(rows * columns);
        kernel.run({x.data(), up, y.data(), rows, columns, stride, GetParam()}, pool);
        return y;
      });
    }
}

TEST_P(RowWise, SiluMulIsTheDefinition) {
  const std::int64_t columns = 400;
  const Elements gate = random(columns, 8), up = random(columns);
  Elements y = output(columns);
  silu_mul_kernels().back().run({gate.data(), up.data(), y.data(), 1, columns, columns, GetParam()}, pools_[0]);
  for (std::int64_t i = 0; i < columns; ++i) {
    const double expected = double{gate[i]} / (1 + std::exp(-double{gate[i]})) * double{up[i]};
    EXPECT_NEAR(y[i], expected, std::abs(expected) * (4 * epsilon()) + 1e-37);
  }
}

TEST_P(RowWise, SigmoidMulIsOneFactorForEachRow) {
  const std::int64_t rows = 70, columns = 33;
  const Elements gate = random(rows, 8), x = random(rows * columns);
  for (const SigmoidMulKernel& kernel : sigmoid_mul_kernels()) {
    if (!runs_here(kernel.isa)) continue;
    for (ThreadPool& pool : pools_) {
      Elements y = output(rows * columns);
      kernel.run({gate.data(), x.data(), y.data(), rows, columns, GetParam()}, pool);
      for (std::int64_t i = 0; i < rows * columns; ++i) {
        const double expected = double{x[i]} / (1 + std::exp(-double{gate[i / columns]}));
        EXPECT_NEAR(y[i], expected, std::abs(expected) * (4 * epsilon()) + 1e-37);
      }
    }
  }
  Elements edges = random(2), ones = random(2), y = output(2);
  edges.set(0, -1e4f), edges.set(1, 1e4f), ones.set(0, 1), ones.set(1, 1);
  sigmoid_mul_kernels().back().run({edges.data(), ones.data(), y.data(), 2, 1, GetParam()}, pools_[0]);
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_EQ(y[1], 1.0f);
}

TEST_P(RowWise, SliceAndGatherCopyRows) {
  const std::int64_t rows = 300, input = 37;
  const Elements x = random(rows * input);
  for (const SliceKernel& kernel : slice_kernels()) {
    Elements y = output(rows * 20);
    kernel.run({x.data(), y.data(), rows, 20, input, 11, GetParam()}, pools_[2]);
    for (std::int64_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], x[i / 20 * input + 11 + i % 20]);
  }
  const std::vector<std::int32_t> picked{299, 0, 5, 5, 77};
  for (const GatherRowsKernel& kernel : gather_rows_kernels()) {
    Elements y = output(5 * input);
    kernel.run({x.data(), picked.data(), y.data(), 5, input, GetParam()}, pools_[2]);
    for (std::int64_t i = 0; i < y.size(); ++i)
      ASSERT_EQ(y[i], x[picked[static_cast<std::size_t>(i / input)] * input + i % input]);
  }
}

TEST_P(RowWise, RopeKernelsAgree) {
  for (const std::int64_t dim : kHeadDims) {
    const std::int64_t rows = 33, heads = 3, count = rows * heads * dim;
    const Elements x = random(count), table = random(rows * dim);
    expect_agreement(rope_kernels(), dim, [&](const RopeKernel& kernel, ThreadPool& pool) {
      Elements y = output(count);
      kernel.run({x.data(), table.data(), y.data(), rows, heads, dim, GetParam()}, pool);
      return y;
    });
  }
}

TEST_P(RowWise, RopeRotatesHalves) {
  const std::int64_t dim = 64, half = dim / 2;
  const Elements x = random(2 * dim), table = random(dim);
  Elements y = output(2 * dim);
  rope_kernels().back().run({x.data(), table.data(), y.data(), 1, 2, dim, GetParam()}, pools_[0]);
  for (std::int64_t head = 0; head < 2; ++head)
    for (std::int64_t i = 0; i < half; ++i) {
      const double x1 = x[head * dim + i], x2 = x[head * dim + half + i], c = table[i], s = table[half + i];
      const double slack = 2 * epsilon() * (std::abs(x1) + std::abs(x2)) * (std::abs(c) + std::abs(s)) + 1e-37;
      EXPECT_NEAR(y[head * dim + i], x1 * c - x2 * s, slack);
      EXPECT_NEAR(y[head * dim + half + i], x2 * c + x1 * s, slack);
    }
}

TEST_P(RowWise, RotaryTableHoldsCosinesThenSinesOfF32Angles) {
  ops::RotaryTable op;
  const std::int64_t dim = 20, half = dim / 2;
  for (std::int64_t i = 0; i < half; ++i)
    op.inv_freq.push_back(std::pow(1e4f, -2.0f * static_cast<float>(i) / static_cast<float>(dim)));
  op.attention_scaling = 1.25f;
  std::vector<std::int32_t> positions;
  for (std::int32_t i = 0; i < 40; ++i) positions.push_back(i * i * 171);
  Elements y = output(40 * dim);
  for (const RotaryTableKernel& kernel : rotary_table_kernels()) {
    kernel.run({&op, positions.data(), nullptr, y.data(), 40, dim, GetParam()}, pools_[1]);
    for (std::int64_t row = 0; row < 40; ++row)
      for (std::int64_t i = 0; i < half; ++i) {
        const float angle =
            op.inv_freq[static_cast<std::size_t>(i)] * static_cast<float>(positions[static_cast<std::size_t>(row)]);
        EXPECT_NEAR(y[row * dim + i], 1.25 * std::cos(double{angle}), 1.25 * epsilon()) << angle;
        EXPECT_NEAR(y[row * dim + half + i], 1.25 * std::sin(double{angle}), 1.25 * epsilon()) << angle;
      }
  }
}

TEST_P(RowWise, RotaryTableFollowsTheLengthOfTheRequest) {
  ops::RotaryTable op;
  op.inv_freq = {1.0f, 0.1f};
  op.original_length = 100;
  const std::vector<std::int32_t> positions{7, 7, 7, 7}, lengths{100, 400, 400, 250};
  const auto run = [&] {
    Elements y = output(16);
    rotary_table_kernels().back().run({&op, positions.data(), lengths.data(), y.data(), 4, 4, GetParam()}, pools_[0]);
    return y;
  };
  const auto expect_row = [&](const Elements& y, std::int64_t row, double second_frequency) {
    EXPECT_NEAR(y[row * 4 + 1], std::cos(7 * second_frequency), 2 * epsilon()) << row;
    EXPECT_NEAR(y[row * 4 + 3], std::sin(7 * second_frequency), 2 * epsilon()) << row;
  };
  op.dynamic_base = 1e4f;
  op.dynamic_factor = 2;
  op.dynamic_offset = 1;
  const auto dynamic = [](double length) { return 1 / std::sqrt(1e4 * std::pow(2 * length / 100 - 1, 4.0 / 2)); };
  const Elements ntk = run();
  expect_row(ntk, 0, 0.1);
  expect_row(ntk, 1, dynamic(400));
  expect_row(ntk, 2, dynamic(400));
  expect_row(ntk, 3, dynamic(250));
  op.long_inv_freq = {0.5f, 0.05f};
  const Elements longrope = run();
  expect_row(longrope, 0, 0.1);
  expect_row(longrope, 1, 0.05);
  expect_row(longrope, 3, 0.05);
}

// The region's meaning: slice, rms_norm, rope and kv_write one after the other.
struct Written {
  Elements q, k_cache, v_cache;
  bool operator==(const Written&) const = default;
};

Written run_body(const QkNormRopeKvWriteArgs& a, const KvStorage& storage, ThreadPool& pool) {
  Written out{Elements(a.dtype, a.rows * a.num_heads * a.head_dim), {}, {}};
  const std::int64_t columns = (a.num_heads + 2 * a.num_kv_heads) * a.head_dim;
  const auto slice = [&](std::int64_t first_head, std::int64_t heads) {
    Elements y(a.dtype, a.rows * heads * a.head_dim);
    slice_kernels().back().run({a.qkv, y.data(), a.rows, heads * a.head_dim, columns, first_head * a.head_dim, a.dtype},
                               pool);
    return y;
  };
  const auto norm_rope = [&](const Elements& x, const std::byte* weight, std::int64_t heads) {
    Elements normed(a.dtype, x.size()), y(a.dtype, x.size());
    rms_norm_kernels().back().run({x.data(), weight, normed.data(), a.rows * heads, a.head_dim, a.epsilon, a.dtype},
                                  pool);
    rope_kernels().back().run({normed.data(), a.table, y.data(), a.rows, heads, a.head_dim, a.dtype}, pool);
    return y;
  };
  out.q = norm_rope(slice(0, a.num_heads), a.q_norm, a.num_heads);
  const Elements k = norm_rope(slice(a.num_heads, a.num_kv_heads), a.k_norm, a.num_kv_heads);
  const Elements v = slice(a.num_heads + a.num_kv_heads, a.num_kv_heads);
  KvWriteArgs write{a.k_cache,  k.data(),     a.slot_mapping, a.rows,     a.num_kv_heads,
                    a.head_dim, a.block_size, a.dtype,        a.k_packed, a.int8_cache};
  const KvWriteKernel& writer = reference_writer({a.dtype, storage.k, a.head_dim, a.block_size});
  writer.run(write, pool);
  write.cache = a.v_cache;
  write.x = v.data();
  write.packed = a.v_packed;
  writer.run(write, pool);
  return out;
}

// As the reference reads it and as the vector kernels do, in the model's type and in 8 bits.
std::vector<KvStorage> cache_storages(DType dtype, std::int64_t dim) {
  const Quantized in_8{.bits = 8, .group_size = static_cast<int>(dim), .scale_dtype = DType::f32};
  return {kv_cache_storage(dtype, dim, dim % 32 == 0 ? kAvx2 : kBaseline),
          quantized_kv_cache_storage(in_8, dim, dim % 32 == 0 ? kAvx2 : kBaseline)};
}

TEST_P(RowWise, QkNormRopeKvWriteIsItsBody) {
  const std::int64_t shapes[][2] = {{1, 1}, {4, 2}, {6, 2}, {5, 5}, {16, 8}};
  const std::int64_t block = 64, blocks = 3, rows = 70;
  for (const std::int64_t dim : kHeadDims)
    for (const auto& [heads, kv_heads] : shapes) {
      if (heads * dim > 2048) continue;
      const Elements qkv = random(rows * (heads + 2 * kv_heads) * dim), weights = random(2 * dim);
      const Elements table = random(rows * dim);
      std::vector<std::int32_t> slots;
      for (std::int32_t i = 0; i < rows; ++i) slots.push_back((i * 37 + 64) % 192);
      for (const KvStorage& storage : cache_storages(GetParam(), dim)) {
        const Elements cache = empty_cache({GetParam(), heads, kv_heads, dim}, blocks, storage.v, 0.25f);
        QkNormRopeKvWriteArgs args{.qkv = qkv.data(),
                                   .q_norm = weights.data(),
                                   .k_norm = weights.data() + dim * static_cast<std::int64_t>(size_of(GetParam())),
                                   .table = table.data(),
                                   .k_cache = nullptr,
                                   .v_cache = nullptr,
                                   .slot_mapping = slots.data(),
                                   .q = nullptr,
                                   .rows = rows,
                                   .num_heads = heads,
                                   .num_kv_heads = kv_heads,
                                   .head_dim = dim,
                                   .block_size = block,
                                   .epsilon = 1e-6f,
                                   .dtype = GetParam(),
                                   .k_packed = cache_tile(storage.k),
                                   .v_packed = cache_tile(storage.v),
                                   .int8_cache = in_8_bits(storage.k)};
        Elements k_cache = cache, v_cache = cache;
        args.k_cache = k_cache.data();
        args.v_cache = v_cache.data();
        Written expected = run_body(args, storage, pools_[0]);
        expected.k_cache = k_cache;
        expected.v_cache = v_cache;
        EXPECT_FALSE(k_cache == cache);
        for (const QkNormRopeKvWriteKernel& kernel : qk_norm_rope_kv_write_kernels()) {
          if (!runs_here(kernel.isa)) continue;
          Written got{output(rows * heads * dim), cache, cache};
          args.q = got.q.data();
          args.k_cache = got.k_cache.data();
          args.v_cache = got.v_cache.data();
          kernel.run(args, pools_[2]);
          EXPECT_TRUE(got == expected) << kernel.name << " D " << dim << " heads " << heads << "/" << kv_heads
                                       << (args.int8_cache ? " in 8 bits" : "");
        }
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Types, RowWise, ::testing::Values(DType::bf16, DType::f32),
                         [](const auto& param) { return to_string(param.param); });

}  // namespace
}  // namespace cajal::cpu::testing
