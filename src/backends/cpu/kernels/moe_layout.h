#pragma once
// What the kernels of MoeExperts share: where an expert's matrices lie, and how the scratch memory is divided. A *pair* is
// one choice of one row; there are rows * top_k of them.
#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels/moe.h"
#include "base/checked.h"
#include "tensor/lossless.h"

namespace cajal::cpu {

struct ExpertMatrix {
  std::int64_t outputs, inputs;
  Packed packed;
  DType dtype;
  bool lossless = false;

  std::int64_t bytes() const {
    if (lossless) return LosslessLayout{outputs, inputs}.matrix_bytes();
    return round_up<std::int64_t>(outputs, packed.rows) * round_up<std::int64_t>(inputs, packed.group) *
           static_cast<std::int64_t>(size_of(dtype));
  }
};
inline ExpertMatrix gate_up_of(const MoeArgs& a) {
  return {2 * a.intermediate_size, a.hidden_size, a.packed, a.dtype, a.lossless};
}
inline ExpertMatrix down_of(const MoeArgs& a) {
  return {a.hidden_size, a.intermediate_size, a.packed, a.dtype, a.lossless};
}

// Consecutive arrays, each from a cache line on.
class ScratchLayout {
 public:
  std::size_t take(std::int64_t elements, std::size_t element_bytes) {
    const std::size_t at = size_;
    size_ = round_up<std::size_t>(size_ + static_cast<std::size_t>(elements) * element_bytes, 64);
    return at;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

struct MoeScratch {
  std::size_t x, gate_up, hidden, out;  // [pairs, ...] of dtype: gathered rows; results of each step, the last as y is
  std::size_t pairs;                    // i32[pairs]: pair at a position, by expert and then by pair
  std::size_t positions;                // i32[pairs]: the inverse; -1 for pairs whose expert is not here
  std::size_t begin;                    // i32[num_experts + 1]: first position of an expert
  std::size_t active, units;            // i32[num_experts + 1]: experts that were chosen; sums of their pieces of work
  std::size_t bytes;
};

inline MoeScratch moe_scratch(const MoeShape& shape) {
  ScratchLayout l;
  MoeScratch s{};
  const std::size_t element = size_of(shape.dtype), index = sizeof(std::int32_t);
  const std::int64_t pairs = shape.rows * shape.top_k;
  s.x = l.take(pairs * shape.hidden_size, element);
  s.gate_up = l.take(pairs * 2 * shape.intermediate_size, element);
  s.hidden = l.take(pairs * shape.intermediate_size, element);
  s.out = l.take(pairs * shape.hidden_size, shape.partial ? sizeof(float) : element);
  s.pairs = l.take(pairs, index);
  s.positions = l.take(pairs, index);
  s.begin = l.take(shape.num_experts + 1, index);
  s.active = l.take(shape.num_experts + 1, index);
  s.units = l.take(shape.num_experts + 1, index);
  s.bytes = l.size();
  return s;
}
inline MoeShape shape_of(const MoeArgs& a, const Storage& storage = Plain{}) {
  return {.dtype = a.dtype,
          .gate_up_storage = storage,
          .down_storage = storage,
          .rows = a.rows,
          .num_experts = a.num_experts,
          .hidden_size = a.hidden_size,
          .intermediate_size = a.intermediate_size,
          .top_k = a.top_k,
          .sum_parts = a.sum_parts,
          .partial = a.partial};
}
inline MoeScratch moe_scratch(const MoeArgs& a) { return moe_scratch(shape_of(a)); }

// The steps between and behind the products, pair by pair; what the faster ones mean.
void activate_ref(const MoeArgs& args, const std::byte* gate_up, std::byte* hidden);
void combine_ref(const MoeArgs& args, const std::byte* out);  // if partial, the outputs as they are

}  // namespace cajal::cpu
