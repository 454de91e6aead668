#include "backends/cpu/kernels/moe_grouped.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "backends/cpu/kernels/elementwise.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/moe_layout.h"
#include "backends/cpu/kernels/vec_avx2.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
namespace cajal::cpu {
namespace {

// y[0..n) = the sum over choices j of weights[j] * rows[j][0..n), each product rounded, f32 in between.
void combine_bf16(const std::byte* const* rows, const float* weights, std::int32_t choices, std::byte* y,
                  std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (std::int32_t j = 0; j < choices; ++j) {
      const __m256 product = _mm256_mul_ps(_mm256_set1_ps(weights[j]), avx2::load_bf16(rows[j] + i * 2));
      sum = _mm256_add_ps(sum, avx2::round_to_bf16(product));
    }
    avx2::store_bf16(y + i * 2, sum);
  }
  for (; i < n; ++i) {
    float sum = 0;
    for (std::int32_t j = 0; j < choices; ++j)
      sum += round_to(DType::bf16, weights[j] * load_element(rows[j], i, DType::bf16));
    store_element(y, i, DType::bf16, sum);
  }
}

void combine_f32(const std::byte* const* rows, const float* weights, std::int32_t choices, std::byte* y,
                 std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (std::int32_t j = 0; j < choices; ++j) {
      const __m256 row = _mm256_loadu_ps(reinterpret_cast<const float*>(rows[j]) + i);
      sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_set1_ps(weights[j]), row));
    }
    _mm256_storeu_ps(reinterpret_cast<float*>(y) + i, sum);
  }
  for (; i < n; ++i) {
    float sum = 0;
    for (std::int32_t j = 0; j < choices; ++j) sum += weights[j] * load_element(rows[j], i, DType::f32);
    store_element(y, i, DType::f32, sum);
  }
}

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
namespace {

constexpr std::int32_t kMaxChoices = 64;

class GroupedMoe {
 public:
  GroupedMoe(const BlockTable& table, std::uint32_t isa, const MoeArgs& args, ThreadPool& pool)
      : table_(table), isa_(isa), a_(args), pool_(pool), at_(moe_scratch(args)) {
    CAJAL_CHECK(a_.top_k <= kMaxChoices, a_.top_k, " experts a row");
  }

  void run() {
    sort_pairs();
    gather();
    multiply(gate_up_of(a_), a_.gate_up, 1, bytes(at_.x), a_.x, bytes(at_.gate_up));
    activate();
    multiply(down_of(a_), a_.down, a_.sum_parts, bytes(at_.hidden), nullptr, bytes(at_.out));
    combine();
  }

 private:
  std::int64_t num_pairs() const { return a_.rows * a_.top_k; }
  std::int64_t row_bytes(std::int64_t columns) const { return columns * static_cast<std::int64_t>(size_of(a_.dtype)); }
  std::byte* bytes(std::size_t offset) const { return a_.scratch + offset; }
  std::int32_t* ints(std::size_t offset) const { return reinterpret_cast<std::int32_t*>(a_.scratch + offset); }
  std::int32_t group_rows(std::int32_t expert) const { return ints(at_.begin)[expert + 1] - ints(at_.begin)[expert]; }

  // Counting sort of the pairs by expert, in their order within an expert.
  void sort_pairs() {
    std::int32_t* begin = ints(at_.begin);
    std::fill_n(begin, a_.num_experts + 1, 0);
    for (std::int64_t pair = 0; pair < num_pairs(); ++pair) {
      CAJAL_CHECK(a_.ids[pair] >= 0 && a_.ids[pair] < a_.num_experts, "expert ", a_.ids[pair]);
      ++begin[a_.ids[pair] + 1];
    }
    num_active_ = 0;
    for (std::int32_t e = 0; e < a_.num_experts; ++e) {
      if (begin[e + 1] > 0) ints(at_.active)[num_active_++] = e;
      begin[e + 1] += begin[e];
    }
    // Filling moves each expert's beginning to its end, which is the next one's beginning; undone afterwards.
    for (std::int64_t pair = 0; pair < num_pairs(); ++pair) {
      const std::int32_t position = begin[a_.ids[pair]]++;
      ints(at_.pairs)[position] = static_cast<std::int32_t>(pair);
      ints(at_.positions)[pair] = position;
    }
    for (std::int64_t e = a_.num_experts; e > 0; --e) begin[e] = begin[e - 1];
    begin[0] = 0;
  }

  // Copies x for experts with several rows; a single row is read where it is.
  void gather() {
    if (num_active_ == num_pairs()) return;
    const std::int64_t row = row_bytes(a_.hidden_size);
    pool_.parallel_for(num_pairs(), 8, [&](std::int64_t first, std::int64_t end) {
      for (std::int64_t position = first; position < end; ++position) {
        const std::int32_t pair = ints(at_.pairs)[position];
        if (group_rows(a_.ids[pair]) > 1)
          std::memcpy(bytes(at_.x) + position * row, a_.x + pair / a_.top_k * row, static_cast<std::size_t>(row));
      }
    });
  }

  // y[position] = expert's matrix * x[position] for all positions. `rows` is where the single row of an expert is read,
  // by its row of the step, or null: then at its position in x, like the others.
  void multiply(const ExpertMatrix& matrix, const std::byte* weights, std::int32_t sum_parts, const std::byte* x,
                const std::byte* rows, std::byte* y) {
    const std::int32_t* active = ints(at_.active);
    std::int32_t* units = ints(at_.units);
    units[0] = 0;
    for (std::int32_t i = 0; i < num_active_; ++i)
      units[i + 1] = units[i] + static_cast<std::int32_t>(ceil_div(product_tiles(matrix), tiles_a_unit(active[i])));
    const std::int64_t grain = std::clamp<std::int64_t>(units[num_active_] / (16 * pool_.size()), 1, 4);
    pool_.parallel_for(units[num_active_], grain, [&](std::int64_t begin, std::int64_t end) {
      while (begin < end) {
        const auto i = std::upper_bound(units, units + num_active_, begin) - units - 1;
        const std::int64_t stop = std::min<std::int64_t>(end, units[i + 1]);
        multiply_expert(active[i], matrix, weights, sum_parts, x, rows, y, begin - units[i], stop - units[i]);
        begin = stop;
      }
    });
  }

  static std::int64_t product_tiles(const ExpertMatrix& m) { return ceil_div<std::int64_t>(m.outputs, kTileOutputs); }
  std::int64_t tiles_a_unit(std::int32_t expert) const { return tiles_at_once(table_, group_rows(expert)); }

  void multiply_expert(std::int32_t expert, const ExpertMatrix& m, const std::byte* weights, std::int32_t sum_parts,
                       const std::byte* x, const std::byte* rows, std::byte* y, std::int64_t unit_begin,
                       std::int64_t unit_end) {
    const std::int64_t position = ints(at_.begin)[expert], step = tiles_a_unit(expert);
    const std::int64_t x_row = row_bytes(m.inputs), y_row = row_bytes(m.outputs);
    const bool in_place = rows && group_rows(expert) == 1;
    const MatrixProduct product{
        .x = in_place ? rows + ints(at_.pairs)[position] / a_.top_k * x_row : x + position * x_row,
        .x_stride = x_row,
        .weight = weights + expert * m.bytes(),
        .bias = nullptr,
        .y = y + position * y_row,
        .y_stride = y_row,
        .rows = group_rows(expert),
        .in_features = m.inputs,
        .out_features = m.outputs,
        .sum_parts = sum_parts};
    const std::int64_t stop = std::min(unit_end * step, product.tiles());
    multiply_tiles(table_, product,
                   {.row_begin = 0,
                    .row_end = product.rows,
                    .tile_begin = unit_begin * step,
                    .tile_end = stop,
                    .tile_after = stop});
  }

  void activate() {
    const std::byte* gate = bytes(at_.gate_up);
    const auto& kernel = choose(silu_mul_kernels(), RowShape{a_.dtype, a_.intermediate_size}, isa_);
    kernel.run({.gate = gate,
                .up = gate + row_bytes(a_.intermediate_size),
                .y = bytes(at_.hidden),
                .rows = num_pairs(),
                .columns = a_.intermediate_size,
                .input_stride = 2 * a_.intermediate_size,
                .dtype = a_.dtype},
               pool_);
  }

  void combine() {
    const std::int64_t row = row_bytes(a_.hidden_size);
    pool_.parallel_for(a_.rows, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::byte* outs[kMaxChoices];
        float weights[kMaxChoices];
        for (std::int32_t j = 0; j < a_.top_k; ++j) {
          const std::int64_t pair = r * a_.top_k + j;
          outs[j] = bytes(at_.out) + ints(at_.positions)[pair] * row;
          weights[j] = load_element(a_.weights, pair, a_.dtype);
        }
        const auto sum = a_.dtype == DType::bf16 ? combine_bf16 : combine_f32;
        sum(outs, weights, a_.top_k, a_.y + r * row, a_.hidden_size);
      }
    });
  }

  const BlockTable& table_;
  const std::uint32_t isa_;
  const MoeArgs& a_;
  ThreadPool& pool_;
  const MoeScratch at_;
  std::int32_t num_active_ = 0;  // experts that some row chose
};

}  // namespace

void run_grouped_moe(const BlockTable& table, std::uint32_t isa, const MoeArgs& args, ThreadPool& pool) {
  if (args.rows > 0) GroupedMoe(table, isa, args, pool).run();
}

}  // namespace cajal::cpu
