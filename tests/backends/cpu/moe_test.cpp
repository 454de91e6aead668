#include "backends/cpu/kernels/moe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "backends/cpu/kernels/activation.h"
#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/matrix_testing.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

template <class K>
bool runs_here(const K& kernel) {
  return (kernel.isa & ~detect_isa()) == 0;
}

struct Routed {
  Bytes weights;
  std::vector<std::int32_t> ids;
};

Routed route(const RouterKernel& kernel, const RouterShape& s, const Bytes& logits, std::int64_t rows, bool norm,
             ThreadPool& pool) {
  const auto pairs = static_cast<std::size_t>(rows * s.top_k);
  Routed r{Bytes(pairs * size_of(s.dtype)), std::vector<std::int32_t>(pairs)};
  kernel.run({.logits = logits.data(),
              .weights = r.weights.data(),
              .ids = r.ids.data(),
              .rows = rows,
              .num_experts = s.num_experts,
              .top_k = s.top_k,
              .dtype = s.dtype,
              .norm_topk_prob = norm},
             pool);
  return r;
}

class Router : public testing::TestWithParam<DType> {
 protected:
  ThreadPool pool_{2};
};
INSTANTIATE_TEST_SUITE_P(Types, Router, testing::Values(DType::bf16, DType::f32),
                         [](const auto& p) { return std::string(to_string(p.param)); });

TEST_P(Router, KernelsAgreeInEveryBit) {
  std::mt19937 random(1);
  for (const RouterShape& s :
       {RouterShape{GetParam(), 128, 8}, {GetParam(), 5, 2}, {GetParam(), 1, 1}, {GetParam(), 60, 4}})
    for (const Values values : {Values::ordinary, Values::spread, Values::special})
      for (const bool norm : {false, true}) {
        const std::int64_t rows = 33;
        const Bytes logits = random_tensor(s.dtype, rows * s.num_experts, values, random);
        const Routed want = route(router_kernels().back(), s, logits, rows, norm, pool_);
        for (const RouterKernel& kernel : router_kernels()) {
          if (!runs_here(kernel) || !kernel.accepts(s)) continue;
          const Routed got = route(kernel, s, logits, rows, norm, pool_);
          ASSERT_EQ(got.ids, want.ids) << kernel.name;
          ASSERT_TRUE(same_bits(got.weights, want.weights, s.dtype)) << kernel.name;
        }
      }
}

TEST_P(Router, ReferenceIsASoftmaxOfTheLargest) {
  std::mt19937 random(2);
  const RouterShape s{GetParam(), 16, 4};
  const Bytes logits = random_tensor(s.dtype, 10 * 16, Values::ordinary, random);
  for (const bool norm : {false, true}) {
    const Routed got = route(router_kernels().back(), s, logits, 10, norm, pool_);
    for (std::int64_t row = 0; row < 10; ++row) {
      std::vector<double> p(16);
      double sum = 0, chosen = 0;
      for (std::int64_t i = 0; i < 16; ++i)
        sum += p[static_cast<std::size_t>(i)] =
            std::exp(static_cast<double>(load_element(logits.data(), row * 16 + i, s.dtype)));
      std::vector<std::int32_t> order(16);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](auto a, auto b) { return p[std::size_t(a)] > p[std::size_t(b)]; });
      for (std::size_t j = 0; j < 4; ++j) chosen += p[std::size_t(order[j])];
      for (std::size_t j = 0; j < 4; ++j) {
        const std::int64_t pair = row * 4 + static_cast<std::int64_t>(j);
        EXPECT_EQ(got.ids[static_cast<std::size_t>(pair)], order[j]);
        const double want = p[std::size_t(order[j])] / (norm ? chosen : sum);
        EXPECT_NEAR(load_element(got.weights.data(), pair, s.dtype), want,
                    want * (s.dtype == DType::bf16 ? 0x1p-8 : 1e-6));
      }
    }
  }
}

TEST(Router, TakesTheLowerIdAmongEquals) {
  ThreadPool pool(1);
  const Bytes logits(16 * 2);  // bf16 zeros
  for (const RouterKernel& kernel : router_kernels()) {
    if (!runs_here(kernel)) continue;
    const Routed got = route(kernel, {DType::bf16, 16, 3}, logits, 1, true, pool);
    EXPECT_EQ(got.ids, (std::vector<std::int32_t>{0, 1, 2})) << kernel.name;
  }
}

struct Problem {
  MoeShape shape;
  Bytes x, weights, gate_up, down, plain_gate_up, plain_down;
  std::vector<std::int32_t> ids;
};

MoeShape packed_shape(DType dtype, std::int64_t rows, std::int64_t experts, int top_k, std::int64_t h, std::int64_t i,
                      int parts = 1) {
  const Storage tile = linear_weight_storage(dtype, detect_isa());
  return {dtype, tile, tile, rows, experts, h, i, top_k, parts};
}

std::vector<MoeShape> quantized_shapes(DType dtype) {
  std::vector<MoeShape> shapes;
  for (const int bits : {8, 4})
    for (const int group : {32, 128}) {
      const Storage tile = quantized_weight_storage({.bits = bits, .group_size = group});
      shapes.push_back({dtype, tile, tile, 1, 8, 33, 21, 3, 1});
      shapes.push_back({dtype, tile, tile, 7, 4, 64, 48, 2, 8});
      shapes.push_back({dtype, tile, tile, 40, 4, 150, 40, 2, 1});
    }
  return shapes;
}

Problem make_problem(const MoeShape& s, Values values, unsigned seed = 1) {
  std::mt19937 random(seed);
  Problem p{
      .shape = s, .x = {}, .weights = {}, .gate_up = {}, .down = {}, .plain_gate_up = {}, .plain_down = {}, .ids = {}};
  p.x = random_tensor(s.dtype, s.rows * s.hidden_size, values, random);
  p.weights = random_tensor(s.dtype, s.rows * s.top_k, Values::ordinary, random);
  p.plain_gate_up = random_tensor(s.dtype, s.num_experts * 2 * s.intermediate_size * s.hidden_size, values, random);
  p.plain_down = random_tensor(s.dtype, s.num_experts * s.hidden_size * s.intermediate_size, values, random);
  p.gate_up = packed_tensor({s.dtype, {s.num_experts, 2 * s.intermediate_size, s.hidden_size}, s.gate_up_storage},
                            p.plain_gate_up);
  p.down = packed_tensor({s.dtype, {s.num_experts, s.hidden_size, s.intermediate_size}, s.down_storage}, p.plain_down);
  std::vector<std::int32_t> experts(static_cast<std::size_t>(s.num_experts));
  std::iota(experts.begin(), experts.end(), 0);
  for (std::int64_t row = 0; row < s.rows; ++row) {
    std::shuffle(experts.begin(), experts.end(), random);
    p.ids.insert(p.ids.end(), experts.begin(), experts.begin() + s.top_k);
  }
  return p;
}

Bytes run(const MoeKernel& kernel, const Problem& p, std::int64_t first, std::int64_t rows, ThreadPool& pool) {
  const MoeShape& s = p.shape;
  const auto element = static_cast<std::int64_t>(size_of(s.dtype));
  const Bytes x(p.x.begin() + first * s.hidden_size * element, p.x.begin() + (first + rows) * s.hidden_size * element);
  Bytes y(x.size());
  MoeShape now = s;
  now.rows = rows;
  const std::size_t scratch_bytes = kernel.scratch_bytes ? kernel.scratch_bytes(now, pool.size()) : 0;
  std::vector<std::byte> scratch(scratch_bytes, std::byte{0x77});
  kernel.run({.x = x.data(),
              .weights = p.weights.data() + first * s.top_k * element,
              .ids = p.ids.data() + first * s.top_k,
              .gate_up = p.gate_up.data(),
              .down = p.down.data(),
              .y = y.data(),
              .scratch = scratch.data(),
              .rows = rows,
              .num_experts = s.num_experts,
              .hidden_size = s.hidden_size,
              .intermediate_size = s.intermediate_size,
              .top_k = s.top_k,
              .sum_parts = s.sum_parts,
              .dtype = s.dtype,
              .packed = tile_of(s.gate_up_storage),
              .quantized = quantized_of(s.gate_up_storage)},
             pool);
  return y;
}

Bytes run(const MoeKernel& kernel, const Problem& p, ThreadPool& pool) { return run(kernel, p, 0, p.shape.rows, pool); }

class Moe : public testing::TestWithParam<DType> {
 protected:
  ThreadPool pool_{2};
};
INSTANTIATE_TEST_SUITE_P(Types, Moe, testing::Values(DType::bf16, DType::f32),
                         [](const auto& p) { return std::string(to_string(p.param)); });

TEST_P(Moe, KernelsAgreeInEveryBit) {
  for (const Values values : {Values::ordinary, Values::special})
    for (const MoeShape& s : {packed_shape(GetParam(), 1, 8, 3, 33, 21), packed_shape(GetParam(), 7, 4, 2, 64, 48, 8),
                              packed_shape(GetParam(), 40, 4, 2, 50, 16), packed_shape(GetParam(), 3, 16, 1, 1, 1),
                              packed_shape(GetParam(), 12, 1, 1, 16, 32, 2)}) {
      const Problem p = make_problem(s, values);
      const MoeKernel& reference = reference_of(moe_kernels(), s);
      const Bytes want = run(reference, p, pool_);
      for (const MoeKernel& kernel : moe_kernels()) {
        if (!runs_here(kernel) || !kernel.accepts(s) || &kernel == &moe_kernels().back()) continue;
        ASSERT_TRUE(same_bits(run(kernel, p, pool_), want, GetParam())) << kernel.name << " rows " << s.rows;
      }
    }
}

TEST_P(Moe, KernelsAgreeInEveryBitOverQuantisedWeights) {
  for (const MoeShape& s : quantized_shapes(GetParam()))
    for (const Values values : {Values::ordinary, Values::special}) {
      Problem p = make_problem(s, Values::ordinary);
      std::mt19937 random(5);
      p.x = random_tensor(s.dtype, s.rows * s.hidden_size, values, random);
      const Bytes want = run(reference_of(moe_kernels(), s), p, pool_);
      for (const MoeKernel& kernel : moe_kernels()) {
        if (!runs_here(kernel) || !kernel.accepts(s)) continue;
        ASSERT_TRUE(same_bits(run(kernel, p, pool_), want, GetParam())) << kernel.name << " rows " << s.rows;
      }
    }
}

TEST_P(Moe, QuantisedRowsHaveTheSameBitsAloneAndAmongOthersWithAnyThreads) {
  for (const MoeShape& s : quantized_shapes(GetParam())) {
    const Problem p = make_problem(s, Values::ordinary);
    const MoeKernel& kernel = choose(moe_kernels(), s, detect_isa());
    const Bytes all = run(kernel, p, pool_);
    ThreadPool three(3);
    ASSERT_EQ(run(kernel, p, three), all);
    const std::int64_t row_bytes = s.hidden_size * static_cast<std::int64_t>(size_of(s.dtype));
    for (std::int64_t row = 0; row < s.rows; row += 7) {
      const Bytes want(all.begin() + row * row_bytes, all.begin() + (row + 1) * row_bytes);
      ASSERT_EQ(run(kernel, p, row, 1, pool_), want) << row;
    }
  }
}

TEST_P(Moe, ARowHasTheSameBitsAloneAndAmongOthersWithAnyThreads) {
  const Problem p = make_problem(packed_shape(GetParam(), 50, 4, 2, 80, 64, 8), Values::ordinary);
  const std::int64_t row_bytes = 80 * static_cast<std::int64_t>(size_of(GetParam()));
  for (const MoeKernel& kernel : moe_kernels()) {
    if (!runs_here(kernel) || !kernel.accepts(p.shape)) continue;
    const Bytes all = run(kernel, p, pool_);
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      ASSERT_TRUE(same_bits(run(kernel, p, pool), all, GetParam())) << kernel.name << " threads " << threads;
    }
    for (const std::int64_t row : {0, 13, 49}) {
      const Bytes want(all.begin() + row * row_bytes, all.begin() + (row + 1) * row_bytes);
      ASSERT_TRUE(same_bits(run(kernel, p, row, 1, pool_), want, GetParam())) << kernel.name << " row " << row;
    }
  }
}

TEST_P(Moe, ReferenceIsTheWeightedSumOfTheChosenExperts) {
  for (const Storage& storage : {Storage{Plain{}}, Storage{Packed{16, 2}}}) {
    const std::int64_t h = 24, n = 16;
    const Problem p = make_problem({GetParam(), storage, storage, 5, 6, h, n, 2, 4}, Values::ordinary);
    const auto at = [&](const Bytes& b, std::int64_t i) {
      return static_cast<double>(load_element(b.data(), i, GetParam()));
    };
    const Bytes y = run(reference_of(moe_kernels(), p.shape), p, pool_);
    for (std::int64_t row = 0; row < 5; ++row) {
      std::vector<double> want(static_cast<std::size_t>(h)), size(want.size());
      for (std::int64_t j = 0; j < 2; ++j) {
        const std::int64_t e = p.ids[static_cast<std::size_t>(row * 2 + j)];
        for (std::int64_t i = 0; i < n; ++i) {
          double gate = 0, up = 0;
          for (std::int64_t k = 0; k < h; ++k) {
            gate += at(p.x, row * h + k) * at(p.plain_gate_up, (e * 2 * n + i) * h + k);
            up += at(p.x, row * h + k) * at(p.plain_gate_up, (e * 2 * n + n + i) * h + k);
          }
          const double hidden = gate / (1 + std::exp(-gate)) * up;
          for (std::int64_t o = 0; o < h; ++o) {
            const double term = at(p.weights, row * 2 + j) * hidden * at(p.plain_down, (e * h + o) * n + i);
            want[static_cast<std::size_t>(o)] += term;
            size[static_cast<std::size_t>(o)] += std::fabs(term);
          }
        }
      }
      for (std::size_t o = 0; o < want.size(); ++o)
        ASSERT_NEAR(at(y, row * h + static_cast<std::int64_t>(o)), want[o],
                    size[o] * (GetParam() == DType::bf16 ? 0.02 : 1e-5));
    }
  }
}

}  // namespace
}  // namespace cajal::cpu
