#include "backends/cpu/kernels/moe_grouped.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "backends/cpu/kernels/elementwise.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/moe_layout.h"
#include "backends/cpu/kernels/vec_avx2.h"

namespace cajal::cpu {
namespace {

// What remains when the experts are done: y[0..n) = the sum over choices j of weights[j] * rows[j][0..n), each product
// rounded, f32 in between.
struct Combination {
  const std::byte* const* rows;
  const float* weights;
  std::int32_t choices;
  std::byte* y;
  std::int64_t n;
};

void combine_from(const Combination& c, DType dtype, std::int64_t first) {
  for (std::int64_t i = first; i < c.n; ++i) {
    float sum = 0;
    for (std::int32_t j = 0; j < c.choices; ++j)
      sum += round_to(dtype, c.weights[j] * load_element(c.rows[j], i, dtype));
    store_element(c.y, i, dtype, sum);
  }
}

}  // namespace
}  // namespace cajal::cpu

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
namespace cajal::cpu {
namespace {

void combine_bf16_avx2(const Combination& c) {
  std::int64_t i = 0;
  for (; i + 8 <= c.n; i += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (std::int32_t j = 0; j < c.choices; ++j) {
      const __m256 product = _mm256_mul_ps(_mm256_set1_ps(c.weights[j]), avx2::load_bf16(c.rows[j] + i * 2));
      sum = _mm256_add_ps(sum, avx2::round_to_bf16(product));
    }
    avx2::store_bf16(c.y + i * 2, sum);
  }
  combine_from(c, DType::bf16, i);
}

void combine_f32_avx2(const Combination& c) {
  std::int64_t i = 0;
  for (; i + 8 <= c.n; i += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (std::int32_t j = 0; j < c.choices; ++j) {
      const __m256 row = _mm256_loadu_ps(reinterpret_cast<const float*>(c.rows[j]) + i);
      sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_set1_ps(c.weights[j]), row));
    }
    _mm256_storeu_ps(reinterpret_cast<float*>(c.y) + i, sum);
  }
  combine_from(c, DType::f32, i);
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
    multiply({gate_up_of(a_), a_.gate_up, 1, bytes(at_.x), a_.x, bytes(at_.gate_up)});
    activate();
    multiply({down_of(a_), a_.down, a_.sum_parts, bytes(at_.hidden), nullptr, bytes(at_.out)});
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

  // One of the two products of all experts: y[position] = matrix of its expert * x[position].
  struct Product {
    ExpertMatrix matrix;
    const std::byte* weights;
    std::int32_t sum_parts;
    const std::byte* x;
    const std::byte*
        rows;  // where the only row of an expert is read, as row of the step; null: at its position in x too
    std::byte* y;
  };

  // The work is cut in units: as many tiles of an expert as its blocks take at once, in the order of the experts.
  void multiply(const Product& p) {
    std::int32_t* units = ints(at_.units);
    units[0] = 0;
    const std::int64_t tiles = ceil_div<std::int64_t>(p.matrix.outputs, kTileOutputs);
    for (std::int32_t i = 0; i < num_active_; ++i)
      units[i + 1] = units[i] + static_cast<std::int32_t>(ceil_div(tiles, tiles_a_unit(expert_at(i))));
    const std::int64_t total = units[num_active_];
    const std::int64_t grain = std::clamp<std::int64_t>(total / (16 * pool_.size()), 1, 4);
    pool_.parallel_for(total, grain, [&](std::int64_t begin, std::int64_t end) {
      // Threads probably take pieces in turn.
      const std::int64_t after = begin + grain * pool_.size();
      bool fetched = begin >= grain * pool_.size();
      while (begin < end) {
        const std::int32_t i = active_of_unit(begin);
        const std::int64_t stop = std::min<std::int64_t>(end, units[i + 1]);
        multiply_expert(p, i, begin, stop, unit_weight(p, stop < end ? stop : after), fetched);
        begin = stop;
        fetched = true;
      }
    });
  }

  std::int32_t expert_at(std::int32_t i) const { return ints(at_.active)[i]; }
  std::int64_t tiles_a_unit(std::int32_t expert) const { return tiles_at_once(table_, group_rows(expert)); }
  std::int32_t active_of_unit(std::int64_t unit) const {
    const std::int32_t* units = ints(at_.units);
    return static_cast<std::int32_t>(std::upper_bound(units, units + num_active_, unit) - units - 1);
  }
  const std::byte* unit_weight(const Product& p, std::int64_t unit) const {
    if (unit >= ints(at_.units)[num_active_]) return nullptr;
    const std::int32_t i = active_of_unit(unit), expert = expert_at(i);
    const std::int64_t tile = (unit - ints(at_.units)[i]) * tiles_a_unit(expert);
    return p.weights + expert * p.matrix.bytes() + tile * product_of(p, expert).tile_bytes(table_);
  }

  MatrixProduct product_of(const Product& p, std::int32_t expert) const {
    const std::int64_t position = ints(at_.begin)[expert];
    const std::int64_t x_row = row_bytes(p.matrix.inputs), y_row = row_bytes(p.matrix.outputs);
    const bool in_place = p.rows && group_rows(expert) == 1;
    return {.x = in_place ? p.rows + ints(at_.pairs)[position] / a_.top_k * x_row : p.x + position * x_row,
            .x_stride = x_row,
            .weight = p.weights + expert * p.matrix.bytes(),
            .bias = nullptr,
            .y = p.y + position * y_row,
            .y_stride = y_row,
            .rows = group_rows(expert),
            .in_features = p.matrix.inputs,
            .out_features = p.matrix.outputs,
            .sum_parts = p.sum_parts};
  }

  // Units [begin, end), all of the i-th active expert.
  void multiply_expert(const Product& p, std::int32_t i, std::int64_t begin, std::int64_t end,
                       const std::byte* weight_after, bool fetched) {
    const std::int32_t expert = expert_at(i), first = ints(at_.units)[i];
    const MatrixProduct product = product_of(p, expert);
    const std::int64_t step = tiles_a_unit(expert);
    multiply_tiles(table_, product,
                   {.row_begin = 0,
                    .row_end = product.rows,
                    .tile_begin = (begin - first) * step,
                    .tile_end = std::min((end - first) * step, product.tiles()),
                    .weight_after = weight_after,
                    .fetched = fetched});
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
        const Combination c{outs, weights, a_.top_k, a_.y + r * row, a_.hidden_size};
        if (!(isa_ & kAvx2))
          combine_from(c, a_.dtype, 0);
        else
          a_.dtype == DType::bf16 ? combine_bf16_avx2(c) : combine_f32_avx2(c);
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
