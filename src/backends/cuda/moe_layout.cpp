#include "backends/cuda/moe_layout.h"

#include <algorithm>

#include "backends/cuda/kernels/elementwise.h"
#include "base/checked.h"
#include "compiler/memory_plan.h"

namespace cajal::cuda {
namespace {

// Tiles of 16 rows where experts have few, which then read their weights once for each tile.
std::int32_t tile_rows(const MoeShape& s) { return s.rows * s.top_k <= 16 * s.num_experts ? 16 : 64; }
std::int32_t most_tiles(const MoeShape& s) {
  const std::int32_t pairs = s.rows * s.top_k;
  return std::min(pairs, pairs / tile_rows(s) + s.num_experts);
}

}  // namespace

MoeScratch moe_scratch(const MoeShape& s) {
  const std::size_t pairs = static_cast<std::size_t>(s.rows) * static_cast<std::size_t>(s.top_k);
  const std::size_t element = s.element == Element::bf16 ? 2 : 4;
  MoeScratch at{};
  const auto place = [&](std::size_t bytes) {
    const std::size_t offset = at.bytes;
    at.bytes += round_up(bytes, kPlanAlignment);
    return offset;
  };
  at.x_rows = place(pairs * 4);
  at.places = place(pairs * 4);
  at.tiles = place(static_cast<std::size_t>(most_tiles(s)) * sizeof(GroupTile));
  at.num_tiles = place(4);
  at.gate_up = place(pairs * 2 * static_cast<std::size_t>(s.intermediate_size) * element);
  at.hidden = place(pairs * static_cast<std::size_t>(s.intermediate_size) * element);
  at.out = place(pairs * static_cast<std::size_t>(s.hidden_size) * element);
  return at;
}

void run_moe(const MoeArgs& a, void (*linear)(const LinearArgs&, cudaStream_t), cudaStream_t stream) {
  const MoeShape& s = a.shape;
  const MoeScratch at = moe_scratch(s);
  const auto ints = [&](std::size_t offset) { return reinterpret_cast<std::int32_t*>(a.scratch + offset); };
  const MoePlan plan{ints(at.x_rows), ints(at.places), reinterpret_cast<GroupTile*>(a.scratch + at.tiles),
                     ints(at.num_tiles)};
  const Rows pairs{a.rows.most * s.top_k, a.rows.live, a.rows.scale * s.top_k};
  moe_plan({a.ids, plan, a.rows, s.num_experts, s.top_k, tile_rows(s)}, stream);

  const std::int64_t multiple = s.element == Element::bf16 ? kWeightTile : 1;
  const auto matrix = [&](std::int32_t out_features, std::int32_t in_features) {
    LinearArgs l{};
    l.rows = pairs, l.element = s.element, l.sum_parts = 1;
    l.in_features = in_features, l.out_features = out_features;
    l.tiles = plan.tiles, l.num_tiles = plan.num_tiles, l.most_tiles = most_tiles(s), l.tile_rows = tile_rows(s);
    l.group_elements = round_up<std::int64_t>(out_features, multiple) * round_up<std::int64_t>(in_features, multiple);
    return l;
  };
  LinearArgs gate_up = matrix(2 * s.intermediate_size, s.hidden_size);
  gate_up.x = a.x, gate_up.x_rows = plan.x_rows, gate_up.weight = a.gate_up, gate_up.y = a.scratch + at.gate_up;
  linear(gate_up, stream);
  const std::size_t half = static_cast<std::size_t>(s.intermediate_size) * (s.element == Element::bf16 ? 2 : 4);
  silu_mul({gate_up.y, a.scratch + at.gate_up + half, a.scratch + at.hidden, pairs, s.intermediate_size,
            2 * s.intermediate_size, s.element},
           stream);
  LinearArgs down = matrix(s.hidden_size, s.intermediate_size);
  down.x = a.scratch + at.hidden, down.weight = a.down, down.y = a.scratch + at.out, down.sum_parts = s.sum_parts;
  linear(down, stream);
  moe_combine({a.scratch + at.out, a.weights, plan.places, a.y, a.rows, s.hidden_size, s.top_k, s.element}, stream);
}

}  // namespace cajal::cuda
