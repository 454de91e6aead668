#include "backends/cpu/kernels/moe_quant.h"

#include <algorithm>

#include "backends/cpu/kernels/linear_quant.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/moe_steps.h"

namespace cajal::cpu {
namespace {

// Behind what moe_scratch divides: rounded rows of the step, and rounded hidden rows by position. For kernels with tiles, on lines,
// also panels of the experts that have many rows, and each thread's own; and i32[num_experts + 1]: an expert's first panel.
struct QuantMoeScratch {
  MoeScratch dense;
  RoundedRow x_row, hidden_row;
  std::size_t x, hidden, first_panel, panels, threads, thread_bytes, bytes;
};
QuantMoeScratch quant_scratch(const MoeShape& s, int group_size) {
  const std::int64_t pairs = s.rows * s.top_k;
  QuantMoeScratch q{.dense = moe_scratch(s),
                    .x_row = {s.hidden_size, group_size},
                    .hidden_row = {s.intermediate_size, group_size},
                    .x = 0,
                    .hidden = 0,
                    .first_panel = 0,
                    .panels = 0,
                    .threads = 0,
                    .thread_bytes = 0,
                    .bytes = 0};
  q.x = q.dense.bytes;
  q.hidden = q.x + static_cast<std::size_t>(s.rows * q.x_row.bytes());
  q.bytes = q.hidden + static_cast<std::size_t>(pairs * q.hidden_row.bytes());
  return q;
}
QuantMoeScratch quant_scratch(const MoeArgs& a) {
  return quant_scratch(shape_of(a, a.quantized), a.quantized.group_size);
}
QuantMoeScratch quant_tiles_scratch(const MoeShape& s, int group_size, int threads) {
  QuantMoeScratch q = quant_scratch(s, group_size);
  const std::int64_t pairs = s.rows * s.top_k, experts = std::min(s.num_experts, pairs);
  const std::int64_t panel_bytes = QuantPanels{std::max(s.hidden_size, s.intermediate_size), group_size}.panel_bytes();
  q.first_panel = round_up(q.bytes, alignof(std::int32_t));
  q.panels = round_up(q.first_panel + static_cast<std::size_t>(s.num_experts + 1) * sizeof(std::int32_t), kLineBytes);
  // Each expert has at most one panel that is not full.
  q.threads = q.panels + static_cast<std::size_t>((pairs / kPanelRows + experts) * panel_bytes);
  q.thread_bytes = QuantTileScratch::bytes(s.sum_parts);
  q.bytes = q.threads + static_cast<std::size_t>(threads) * q.thread_bytes + kLineBytes;
  return q;
}

// One of the two products, of all experts: without rows and places, which are each expert's own.
struct ExpertProduct {
  QuantizedLayout layout;
  const std::byte* weights;
  std::int32_t sum_parts;
  bool partial;
};
ExpertProduct gate_up_product(const MoeArgs& a) {
  return {{a.quantized, 2 * a.intermediate_size, a.hidden_size}, a.gate_up, 1, false};
}
ExpertProduct down_product(const MoeArgs& a) {
  return {{a.quantized, a.hidden_size, a.intermediate_size}, a.down, a.sum_parts, a.partial};
}
QuantProduct empty_product(const ExpertProduct& p, DType dtype) {
  return {.x = nullptr,
          .x_row = nullptr,
          .x_share = 1,
          .weight = p.weights,
          .bias = nullptr,
          .y = nullptr,
          .y_stride = p.layout.rows * static_cast<std::int64_t>(p.partial ? sizeof(float) : size_of(dtype)),
          .rows = 0,
          .layout = p.layout,
          .sum_parts = p.sum_parts,
          .dtype = dtype,
          .partial = p.partial};
}

class QuantMoe {
 public:
  // `tiles`: null, or for experts with many rows.
  QuantMoe(const QuantBlockTable& table, const QuantTiles* tiles, std::uint32_t isa, const MoeArgs& args,
           ThreadPool& pool)
      : table_(table),
        tiles_(tiles),
        a_(args),
        pool_(pool),
        at_(tiles ? quant_tiles_scratch(shape_of(args, args.quantized), args.quantized.group_size, pool.size())
                  : quant_scratch(args)),
        steps_(args, at_.dense, isa, pool) {}

  void run() {
    steps_.sort_pairs();
    if (tiles_) place_panels();
    round(a_.x, a_.rows, at_.x_row, steps_.bytes(at_.x));
    multiply(gate_up_product(a_), steps_.bytes(at_.x), true, steps_.bytes(at_.dense.gate_up));
    steps_.activate();
    round(steps_.bytes(at_.dense.hidden), steps_.num_pairs(), at_.hidden_row, steps_.bytes(at_.hidden));
    multiply(down_product(a_), steps_.bytes(at_.hidden), false, steps_.bytes(at_.dense.out));
    steps_.combine();
  }

 private:
  void round(const std::byte* rows, std::int64_t count, const RoundedRow& layout, std::byte* out) {
    const std::int64_t row_bytes = steps_.row_bytes(layout.columns);
    pool_.parallel_for(count, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        round_row(table_, layout, a_.dtype, a_.quantized.bits, rows + r * row_bytes, out + r * layout.bytes());
    });
  }

  bool in_panels(std::int32_t expert) const {
    return tiles_ && tiles_->take(steps_.group_rows(expert), a_.quantized.group_size);
  }

  void place_panels() {
    std::int32_t* const first = first_panels();
    first[0] = 0;
    for (std::int32_t e = 0; e < a_.num_experts; ++e)
      first[e + 1] = first[e] + (in_panels(e) ? ceil_div(steps_.group_rows(e), kPanelRows) : 0);
  }

  void pack_panels(const ExpertProduct& p, const std::byte* x, bool of_step) {
    const std::int32_t* const first = first_panels();
    const QuantPanels layout{p.layout.columns, p.layout.storage.group_size};
    pool_.parallel_for(first[a_.num_experts], 2, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t panel = begin; panel < end; ++panel) {
        const auto e = static_cast<std::int32_t>(std::upper_bound(first, first + a_.num_experts, panel) - first - 1);
        layout.pack(product_of(p, x, of_step, nullptr, e), panel - first[e], panels() + panel * layout.panel_bytes());
      }
    });
  }

  // y[position] = matrix of its expert * x; x are rows of the step, or have a row for each position.
  QuantProduct product_of(const ExpertProduct& p, const std::byte* x, bool of_step, std::byte* y,
                          std::int32_t expert) const {
    const std::int64_t position = steps_.first_position(expert);
    QuantProduct product = empty_product(p, a_.dtype);
    product.x = of_step ? x : x + position * product.x_layout().bytes();
    product.x_row = of_step ? steps_.pairs() + position : nullptr;
    product.x_share = a_.top_k;
    product.weight += expert * p.layout.matrix_bytes();
    product.y = y ? y + position * product.y_stride : nullptr;
    product.rows = steps_.group_rows(expert);
    product.read_once = a_.read_once;
    if (in_panels(expert))
      product.panels =
          panels() + first_panels()[expert] * QuantPanels{p.layout.columns, p.layout.storage.group_size}.panel_bytes();
    return product;
  }

  void multiply(const ExpertProduct& p, const std::byte* x, bool of_step, std::byte* y) {
    if (tiles_) pack_panels(p, x, of_step);
    const auto tiles_a_unit = [this](std::int64_t rows) { return std::int64_t{quant_tiles_at_once(table_, rows)}; };
    steps_.for_units(p.layout.tiles(), tiles_a_unit, [&](const MoePiece& piece) {
      const QuantProduct product = product_of(p, x, of_step, y, piece.expert);
      const std::byte* after = nullptr;
      if (piece.after)
        after = p.weights + piece.after->expert * p.layout.matrix_bytes() + piece.after->tile * p.layout.tile_bytes();
      const QuantTileRange range{0, product.rows, piece.tile_begin, piece.tile_end, after, piece.fetched};
      if (product.panels)
        tiles_->multiply({table_, product, range, of_thread(piece.thread)});
      else
        multiply_quant_tiles(table_, product, range);
    });
  }

  std::int32_t* first_panels() const { return reinterpret_cast<std::int32_t*>(steps_.bytes(at_.first_panel)); }
  std::byte* panels() const { return on_line(steps_.bytes(at_.panels)); }
  std::byte* of_thread(int thread) const {
    return on_line(steps_.bytes(at_.threads)) + static_cast<std::size_t>(thread) * at_.thread_bytes;
  }

  const QuantBlockTable& table_;
  const QuantTiles* const tiles_;
  const MoeArgs& a_;
  ThreadPool& pool_;
  const QuantMoeScratch at_;
  MoeSteps steps_;
};

// Every pair's product by itself, x rounded again for each: y[pair] = matrix of its expert * x[pair / x_share].
void multiply_ref(const MoeArgs& a, const ExpertProduct& p, const std::byte* x, std::int64_t x_share, std::byte* y) {
  const QuantProduct product = empty_product(p, a.dtype);
  const RoundedRow layout = product.x_layout();
  std::byte* rounded = a.scratch + quant_scratch(a).x;
  for (std::int64_t pair = 0; pair < a.rows * a.top_k; ++pair) {
    const std::int64_t row_bytes = layout.columns * static_cast<std::int64_t>(size_of(a.dtype));
    round_row_ref(layout, a.dtype, a.quantized.bits, x + pair / x_share * row_bytes, rounded);
    const std::int32_t e = a.expert_of(pair);
    const std::byte* matrix = p.weights + e * p.layout.matrix_bytes();
    for (std::int64_t n = 0; n < p.layout.rows; ++n)
      store_element(y, pair * p.layout.rows + n, p.partial ? DType::f32 : a.dtype,
                    e < 0 ? 0.0f : quant_dot_ref(rounded, product, matrix, n));
  }
}

}  // namespace

void run_quant_moe(const QuantBlockTable& table, std::uint32_t isa, const MoeArgs& args, ThreadPool& pool) {
  if (args.rows > 0) QuantMoe(table, nullptr, isa, args, pool).run();
}

void run_quant_moe(const QuantTiles& tiles, std::uint32_t isa, const MoeArgs& args, ThreadPool& pool) {
  if (args.rows > 0) QuantMoe(tiles.blocks, &tiles, isa, args, pool).run();
}

void run_quant_moe_ref(const MoeArgs& a, ThreadPool&) {
  const QuantMoeScratch at = quant_scratch(a);
  std::byte *gate_up = a.scratch + at.dense.gate_up, *hidden = a.scratch + at.dense.hidden,
            *out = a.scratch + at.dense.out;
  multiply_ref(a, gate_up_product(a), a.x, a.top_k, gate_up);
  activate_ref(a, gate_up, hidden);
  multiply_ref(a, down_product(a), hidden, 1, out);
  combine_ref(a, out);
}

std::size_t quant_moe_scratch(const MoeShape& shape, int) {
  const auto* q = std::get_if<Quantized>(&shape.down_storage);
  return q ? quant_scratch(shape, q->group_size).bytes : 0;
}

std::size_t quant_moe_tiles_scratch(const MoeShape& shape, int threads) {
  const auto* q = std::get_if<Quantized>(&shape.down_storage);
  return q ? quant_tiles_scratch(shape, q->group_size, threads).bytes : 0;
}

}  // namespace cajal::cpu
