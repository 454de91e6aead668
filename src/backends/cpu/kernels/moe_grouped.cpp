#include "backends/cpu/kernels/moe_grouped.h"

#include <cstring>

#include "backends/cpu/kernels/linear_lossless.h"
#include "backends/cpu/kernels/moe_steps.h"

namespace cajal::cpu {
namespace {

template <class Sizes>
std::int64_t moe_slot_bytes(const Sizes& s) {
  return unpacked_bytes(std::max(s.hidden_size, s.intermediate_size));
}

class GroupedMoe {
 public:
  GroupedMoe(const BlockTable& table, std::uint32_t isa, const MoeArgs& args, ThreadPool& pool)
      : table_(table), a_(args), pool_(pool), at_(moe_scratch(args)), steps_(args, at_, isa, pool) {}

  void run() {
    steps_.sort_pairs();
    gather();
    multiply({gate_up_of(a_), a_.gate_up, 1, bytes(at_.x), a_.x, bytes(at_.gate_up), false});
    steps_.activate();
    multiply({down_of(a_), a_.down, a_.sum_parts, bytes(at_.hidden), nullptr, bytes(at_.out), a_.partial});
    steps_.combine();
  }

 private:
  std::byte* bytes(std::size_t offset) const { return steps_.bytes(offset); }

  // Copies x for experts with several rows; a single row is read where it is.
  void gather() {
    if (steps_.num_active() == steps_.num_pairs()) return;
    const std::int64_t row = steps_.row_bytes(a_.hidden_size);
    pool_.parallel_for(steps_.num_pairs(), 8, [&](std::int64_t first, std::int64_t end) {
      for (std::int64_t position = first; position < end; ++position) {
        const std::int32_t pair = steps_.pairs()[position];
        if (steps_.group_rows(a_.expert_of(pair)) > 1)
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
    bool partial;
  };

  void multiply(const Product& p) {
    const auto tiles_a_unit = [this](std::int64_t rows) { return std::int64_t{tiles_at_once(table_, rows)}; };
    steps_.for_units(ceil_div<std::int64_t>(p.matrix.outputs, kTileOutputs), tiles_a_unit, [&](const MoePiece& piece) {
      const MatrixProduct product = product_of(p, piece.expert);
      const TileRange range{.row_begin = 0,
                            .row_end = product.rows,
                            .tile_begin = piece.tile_begin,
                            .tile_end = piece.tile_end,
                            .weight_after = piece.after ? weight_of(p, *piece.after) : nullptr,
                            .fetched = piece.fetched};
      if (!table_.lossless() || has_block_for(table_, product.rows, product.in_features))
        return multiply_tiles(table_, product, range);
      const int slot = slots_.take();
      multiply_unpacked(table_, product, range, bytes(at_.bytes) + slot * moe_slot_bytes(a_));
      slots_.give_back(slot);
    });
  }

  const std::byte* weight_of(const Product& p, const MoeUnit& unit) const {
    return p.weights + unit.expert * p.matrix.bytes() + unit.tile * product_of(p, unit.expert).tile_bytes(table_);
  }

  MatrixProduct product_of(const Product& p, std::int32_t expert) const {
    const std::int64_t position = steps_.first_position(expert);
    const std::int64_t x_row = steps_.row_bytes(p.matrix.inputs),
                       y_row =
                           p.matrix.outputs * static_cast<std::int64_t>(p.partial ? sizeof(float) : size_of(a_.dtype));
    const bool in_place = p.rows && steps_.group_rows(expert) == 1;
    return {.x = in_place ? p.rows + steps_.pairs()[position] / a_.top_k * x_row : p.x + position * x_row,
            .x_stride = x_row,
            .weight = p.weights + expert * p.matrix.bytes(),
            .bias = nullptr,
            .y = p.y + position * y_row,
            .y_stride = y_row,
            .rows = steps_.group_rows(expert),
            .in_features = p.matrix.inputs,
            .out_features = p.matrix.outputs,
            .sum_parts = p.sum_parts,
            .partial = p.partial,
            .read_once = a_.read_once};
  }

  const BlockTable& table_;
  const MoeArgs& a_;
  ThreadPool& pool_;
  const MoeScratch at_;
  MoeSteps steps_;
  ScratchSlots slots_;
};

}  // namespace

std::size_t lossless_moe_scratch(const MoeShape& s, int threads) {
  return moe_scratch(s).bytes + static_cast<std::size_t>(threads * moe_slot_bytes(s));
}

void run_grouped_moe(const BlockTable& table, std::uint32_t isa, const MoeArgs& args, ThreadPool& pool) {
  if (args.rows > 0) GroupedMoe(table, isa, args, pool).run();
}

}  // namespace cajal::cpu
