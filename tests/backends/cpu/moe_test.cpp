#include "backends/cpu/kernels/moe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "backends/cpu/kernels/activation.h"
#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/matrix_testing.h"
#include "base/thread_pool.h"
#include "tensor/quantized.h"

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
             ThreadPool& pool, const std::int32_t* seqs = nullptr, double capacity_factor = 0) {
  const auto pairs = static_cast<std::size_t>(rows * s.top_k);
  Routed r{Bytes(pairs * size_of(s.dtype)), std::vector<std::int32_t>(pairs)};
  kernel.run({.logits = logits.data(),
              .weights = r.weights.data(),
              .ids = r.ids.data(),
              .rows = rows,
              .num_experts = s.num_experts,
              .top_k = s.top_k,
              .dtype = s.dtype,
              .norm_topk_prob = norm,
              .seq_indices = seqs,
              .capacity_factor = capacity_factor},
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

// What the capacity means, counted expert by expert: who is first among a sequence's rows is taken.
std::vector<std::int32_t> dropped(std::vector<std::int32_t> ids, const std::vector<std::int32_t>& seqs, int top_k,
                                  std::int64_t experts, double factor) {
  const auto k = static_cast<std::size_t>(top_k);
  std::vector<std::int32_t> kept = ids;
  for (std::size_t pair = 0; pair < ids.size(); ++pair) {
    std::int64_t rows = 0, before = 0;
    for (std::size_t row = 0; row < seqs.size(); ++row) {
      if (seqs[row] != seqs[pair / k]) continue;
      ++rows;
      for (std::size_t other = row * k; other < (row + 1) * k; ++other)
        before += other < pair && ids[other] == ids[pair];
    }
    const double share = std::ceil(static_cast<double>(rows * top_k) * factor / static_cast<double>(experts));
    if (static_cast<double>(before) >= std::min(static_cast<double>(rows), share)) kept[pair] = -1;
  }
  return kept;
}

TEST_P(Router, ExpertsTakeNoMoreThanTheirCapacityOfASequence) {
  std::mt19937 random(3);
  const RouterShape s{GetParam(), 6, 2};
  const std::vector<std::int32_t> seqs{4, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 2};
  const auto rows = static_cast<std::int64_t>(seqs.size());
  const Bytes logits = random_tensor(s.dtype, rows * s.num_experts, Values::ordinary, random);
  for (const RouterKernel& kernel : router_kernels()) {
    if (!runs_here(kernel)) continue;
    for (const bool norm : {false, true}) {
      const Routed all = route(kernel, s, logits, rows, norm, pool_);
      for (const double factor : {0.3, 0.75, 1.0, 1.5, 3.0}) {
        const Routed got = route(kernel, s, logits, rows, norm, pool_, seqs.data(), factor);
        EXPECT_EQ(got.ids, dropped(all.ids, seqs, s.top_k, s.num_experts, factor)) << factor;
        if (factor == 3.0) {
          EXPECT_EQ(got.ids, all.ids) << "no expert can be full";
          EXPECT_EQ(got.weights, all.weights);
        }
        for (std::int64_t row = 0; row < rows; ++row) {
          double sum = 0, kept = 0;
          for (std::int64_t pair = row * 2; pair < row * 2 + 2; ++pair) {
            const float weight = load_element(got.weights.data(), pair, s.dtype);
            const bool gone = got.ids[static_cast<std::size_t>(pair)] < 0;
            EXPECT_EQ(gone, weight == 0);
            if (!gone && !norm) {
              EXPECT_EQ(weight, load_element(all.weights.data(), pair, s.dtype));
            }
            sum += weight, kept += !gone;
          }
          if (norm) {
            EXPECT_NEAR(sum, kept > 0 ? 1 : 0, s.dtype == DType::bf16 ? 0x1p-7 : 1e-6);
          }
        }
      }
    }
  }
}

struct Problem {
  MoeShape shape;
  Bytes x, weights, gate_up, down, plain_gate_up, plain_down;
  std::vector<std::int32_t> ids;
  std::int32_t first_expert = 0;
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
      shapes.push_back({dtype, tile, tile, 50, 3, 24, 640, 2, 2});
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

// What a rank has: some of the experts, and of each some of the inner columns.
struct Share {
  std::int32_t first_expert;
  std::int64_t experts, first_column, columns;
};
Problem share_of(const Problem& p, const Share& share, int ranks) {
  const MoeShape& s = p.shape;
  const auto element = static_cast<std::int64_t>(size_of(s.dtype));
  Problem mine = p;
  mine.shape.num_experts = share.experts, mine.shape.intermediate_size = share.columns;
  mine.shape.sum_parts /= ranks, mine.shape.partial = true;
  mine.plain_gate_up.clear(), mine.plain_down.clear();
  std::vector<float> largest;
  const auto take = [&](Bytes& to, const Bytes& from, std::int64_t first, std::int64_t count) {
    to.insert(to.end(), from.begin() + first * element, from.begin() + (first + count) * element);
  };
  for (std::int64_t e = share.first_expert; e < share.first_expert + share.experts; ++e) {
    for (std::int64_t row = 0; row < 2; ++row)
      take(mine.plain_gate_up, p.plain_gate_up,
           ((e * 2 + row) * s.intermediate_size + share.first_column) * s.hidden_size, share.columns * s.hidden_size);
    for (std::int64_t row = e * s.hidden_size; row < (e + 1) * s.hidden_size; ++row) {
      take(mine.plain_down, p.plain_down, row * s.intermediate_size + share.first_column, share.columns);
      largest.push_back(
          largest_of_row(s.dtype, p.plain_down.data() + row * s.intermediate_size * element, s.intermediate_size));
    }
  }
  mine.gate_up = packed_tensor({s.dtype, {share.experts, 2 * share.columns, s.hidden_size}, s.gate_up_storage},
                               mine.plain_gate_up);
  mine.down = packed_tensor({s.dtype, {share.experts, s.hidden_size, share.columns}, s.down_storage}, mine.plain_down,
                            largest.data());
  mine.first_expert = share.first_expert;
  return mine;
}

Bytes run(const MoeKernel& kernel, const Problem& p, std::int64_t first, std::int64_t rows, ThreadPool& pool) {
  const MoeShape& s = p.shape;
  const auto element = static_cast<std::int64_t>(size_of(s.dtype));
  const Bytes x(p.x.begin() + first * s.hidden_size * element, p.x.begin() + (first + rows) * s.hidden_size * element);
  Bytes y(s.partial ? x.size() / size_of(s.dtype) * static_cast<std::size_t>(s.top_k) * sizeof(float) : x.size());
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
              .quantized = quantized_of(s.gate_up_storage),
              .lossless = std::holds_alternative<Lossless>(s.gate_up_storage),
              .read_once = read_in_one_way_or_the_other(s.intermediate_size),
              .first_expert = p.first_expert,
              .partial = s.partial},
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
    for (const MoeShape& s :
         {packed_shape(GetParam(), 1, 8, 3, 33, 21), packed_shape(GetParam(), 7, 4, 2, 64, 48, 8),
          packed_shape(GetParam(), 40, 4, 2, 50, 16), packed_shape(GetParam(), 3, 16, 1, 1, 1),
          packed_shape(GetParam(), 12, 1, 1, 16, 32, 2), packed_shape(GetParam(), 70, 3, 2, 70, 40, 2)}) {
      const Problem p = make_problem(s, values);
      const auto make = [&](const MoeKernel& kernel) { return run(kernel, p, pool_); };
      ByClass want(moe_kernels(), s, make);
      for (const MoeKernel& kernel : moe_kernels()) {
        if (!runs_here(kernel) || !kernel.accepts(s) || &kernel == &moe_kernels().back()) continue;
        ASSERT_TRUE(same_bits(run(kernel, p, pool_), want.of(kernel), GetParam())) << kernel.name << " rows " << s.rows;
      }
    }
}

TEST(LosslessMoe, GivesTheBitsOfPackedWeights) {
  ThreadPool pool(2);
  for (const bool partial : {false, true})
    for (MoeShape s : {packed_shape(DType::bf16, 1, 8, 3, 33, 21), packed_shape(DType::bf16, 7, 4, 2, 64, 48, 8),
                       packed_shape(DType::bf16, 3, 16, 1, 1, 1), packed_shape(DType::bf16, 70, 4, 2, 152, 40, 2)}) {
      s.partial = partial;
      const MoeShape packed = s;
      const Problem of_packed = make_problem(packed, Values::special);
      const auto make = [&](const MoeKernel& kernel) { return run(kernel, of_packed, pool); };
      ByClass want(moe_kernels(), packed, make);
      s.gate_up_storage = s.down_storage = Lossless{};
      const Problem p = make_problem(s, Values::special);
      for (const MoeKernel& kernel : moe_kernels())
        if (runs_here(kernel) && kernel.accepts(s)) {
          EXPECT_TRUE(same_bits(run(kernel, p, pool), want.of(kernel), partial ? DType::f32 : DType::bf16))
              << kernel.name << " rows " << s.rows;
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
    for (const MoeKernel& kernel : moe_kernels()) {
      if (!runs_here(kernel) || !kernel.accepts(s)) continue;
      const Bytes all = run(kernel, p, pool_);
      ThreadPool three(3);
      ASSERT_EQ(run(kernel, p, three), all) << kernel.name;
      const std::int64_t row_bytes = s.hidden_size * static_cast<std::int64_t>(size_of(s.dtype));
      for (std::int64_t row = 0; row < s.rows; row += 7) {
        const Bytes want(all.begin() + row * row_bytes, all.begin() + (row + 1) * row_bytes);
        ASSERT_EQ(run(kernel, p, row, 1, pool_), want) << kernel.name << " row " << row;
      }
    }
  }
}

TEST_P(Moe, DroppedChoicesCountInNoSum) {
  Problem p = make_problem(packed_shape(GetParam(), 6, 5, 2, 33, 16), Values::ordinary);
  const Bytes zero(p.x.size());
  for (std::int64_t pair : {0, 1, 4}) {
    p.ids[static_cast<std::size_t>(pair)] = -1;
    store_element(p.weights.data(), pair, GetParam(), 0);
  }
  const Bytes want = run(reference_of(moe_kernels(), p.shape), p, pool_);
  const std::int64_t row = 33 * static_cast<std::int64_t>(size_of(GetParam()));
  EXPECT_TRUE(std::equal(want.begin(), want.begin() + row, zero.begin())) << "a row that lost all its choices";
  Problem alone = p;  // the choice that row 2 has left, as the only one of two that counts
  alone.ids[4] = alone.ids[5] == 0 ? 1 : 0;
  EXPECT_TRUE(same_bits(run(reference_of(moe_kernels(), p.shape), alone, pool_), want, GetParam()));
  const auto make = [&](const MoeKernel& kernel) { return run(kernel, p, pool_); };
  ByClass of_class(moe_kernels(), p.shape, make);
  for (const MoeKernel& kernel : moe_kernels())
    if (runs_here(kernel) && kernel.accepts(p.shape) && &kernel != &moe_kernels().back()) {
      EXPECT_TRUE(same_bits(run(kernel, p, pool_), of_class.of(kernel), GetParam())) << kernel.name;
    }
}

// Whatever path a number of rows takes (an expert's only row where it lies, several gathered, blocks of many), a row's bits
// are the same.
TEST_P(Moe, EveryNumberOfRowsGivesTheSameBits) {
  const Problem p = make_problem(packed_shape(GetParam(), 600, 8, 2, 16, 16), Values::ordinary);
  const MoeKernel& kernel = choose(moe_kernels(), p.shape, detect_isa());
  const Bytes all = run(kernel, p, pool_);
  const std::int64_t row = 16 * static_cast<std::int64_t>(size_of(GetParam()));
  for (std::int64_t rows = 1; rows <= 600; ++rows) {
    const Bytes some = run(kernel, p, 0, rows, pool_);
    ASSERT_TRUE(std::equal(some.begin(), some.end(), all.begin(), all.begin() + rows * row)) << rows << " rows";
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

// All outputs summed over ranks as the communicator does it, a balanced tree.
Bytes sum_of(std::vector<Bytes> parts) {
  while (parts.size() > 1) {
    std::vector<Bytes> next;
    for (std::size_t i = 0; i < parts.size(); i += 2) {
      if (i + 1 < parts.size())
        for (std::int64_t at = 0; at < static_cast<std::int64_t>(parts[i].size() / sizeof(float)); ++at)
          store_element(
              parts[i].data(), at, DType::f32,
              load_element(parts[i].data(), at, DType::f32) + load_element(parts[i + 1].data(), at, DType::f32));
      next.push_back(std::move(parts[i]));
    }
    parts = std::move(next);
  }
  return parts[0];
}

Bytes combined(const CombineKernel& kernel, const Problem& p, const Bytes& outputs, ThreadPool& pool) {
  const MoeShape& s = p.shape;
  Bytes y(p.x.size());
  kernel.run({.outputs = outputs.data(),
              .weights = p.weights.data(),
              .y = y.data(),
              .rows = s.rows,
              .hidden_size = s.hidden_size,
              .top_k = s.top_k,
              .dtype = s.dtype},
             pool);
  return y;
}

// tp x ep ranks, rank = ep_rank * tp + tp_rank; of the experts each group has as many, the last perhaps fewer.
std::vector<Problem> shares_of(const Problem& p, int tp, int ep) {
  const MoeShape& s = p.shape;
  const std::int64_t most = (s.num_experts + ep - 1) / ep, columns = s.intermediate_size / tp;
  std::vector<Problem> shares;
  for (int e = 0; e < ep; ++e)
    for (int t = 0; t < tp; ++t) {
      const std::int64_t first = std::min(s.num_experts, e * most);
      const Share share{static_cast<std::int32_t>(first), std::min(most, s.num_experts - first), t * columns, columns};
      if (share.experts > 0) shares.push_back(share_of(p, share, tp));
    }
  return shares;
}

TEST_P(Moe, SharedOutByExpertsAndColumnsItGivesTheSameBits) {
  const Storage quantised = quantized_weight_storage({.bits = 8, .group_size = 32});
  struct Grid {
    int tp, ep;
  };
  for (const MoeShape& s : {packed_shape(GetParam(), 9, 5, 2, 33, 64, 4), packed_shape(GetParam(), 1, 7, 3, 40, 128, 8),
                            MoeShape{GetParam(), quantised, quantised, 6, 5, 64, 256, 2, 4},
                            MoeShape{GetParam(), quantised, quantised, 50, 5, 64, 256, 2, 4}})
    for (const Grid& grid : {Grid{1, 2}, {1, 3}, {1, 4}, {2, 1}, {2, 2}, {4, 3}}) {
      const Problem p = make_problem(s, Values::ordinary);
      const Bytes want = run(choose(moe_kernels(), s, detect_isa()), p, pool_);
      std::vector<Bytes> parts;
      for (const Problem& mine : shares_of(p, grid.tp, grid.ep)) {
        const auto make = [&](const MoeKernel& kernel) { return run(kernel, mine, pool_); };
        ByClass want_part(moe_kernels(), mine.shape, make);
        const Bytes part = want_part.of(choose(moe_kernels(), mine.shape, detect_isa()));
        for (const MoeKernel& kernel : moe_kernels())
          if (runs_here(kernel) && kernel.accepts(mine.shape) && &kernel != &moe_kernels().back()) {
            ASSERT_TRUE(same_bits(run(kernel, mine, pool_), want_part.of(kernel), DType::f32)) << kernel.name;
          }
        parts.push_back(part);
      }
      const Bytes outputs = sum_of(std::move(parts));
      for (const CombineKernel& kernel : combine_kernels())
        if (runs_here(kernel) && kernel.accepts({s.dtype, s.hidden_size, s.top_k})) {
          ASSERT_TRUE(same_bits(combined(kernel, p, outputs, pool_), want, s.dtype))
              << kernel.name << " tp " << grid.tp << " ep " << grid.ep << " rows " << s.rows;
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
