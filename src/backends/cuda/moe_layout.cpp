#include "backends/cuda/moe_layout.h"

#include <algorithm>

#include "backends/cuda/kernels/elementwise.h"
#include "backends/cuda/kernels/moe_grouped.h"
#include "backends/cuda/kernels/moe_stream.h"
#include "base/checked.h"
#include "compiler/memory_plan.h"

namespace cajal::cuda {
namespace {

constexpr int kSm90 = 90;
constexpr int kPlannedPairsPerExpert =
    4;  // up to which streaming beats the matrix units, where it does not sort itself
constexpr int kNarrowPairsPerExpert = 32;  // up to which tiles of 64 rows do
constexpr int kPairsOfOneBlock = 4096;     // up to which one block of threads sorts as fast as eight

// Tiles of 16 rows where experts have few, which then read their weights once for each tile.
std::int32_t tile_rows(const MoeShape& s, MoeWay way) {
  const std::int32_t pairs = s.rows * s.top_k;
  switch (way) {
    case MoeWay::combined:
    case MoeWay::streamed:
    case MoeWay::planned: return std::min(s.rows, kMoeStreamRows);
    case MoeWay::grouped: return pairs <= kNarrowPairsPerExpert * s.num_experts ? 64 : 256;
    case MoeWay::portable: return pairs <= 16 * s.num_experts ? 16 : 64;
  }
  return 16;
}
std::int32_t most_tiles(const MoeShape& s, MoeWay way) {
  const std::int32_t pairs = s.rows * s.top_k;
  return std::min(pairs, pairs / tile_rows(s, way) + s.num_experts);
}

// One expert's matrix, as it is stored.
std::int64_t matrix_elements(const MoeShape& s, std::int32_t out_features, std::int32_t in_features) {
  const std::int64_t multiple = s.element == Element::bf16 ? kWeightTile : 1;
  return round_up<std::int64_t>(out_features, multiple) * round_up<std::int64_t>(in_features, multiple);
}

MoeStreamArgs gate_up_args(const MoeShape& s, MoeWay way) {
  MoeStreamArgs a{};
  a.rows.most = s.rows, a.in_features = s.hidden_size, a.out_features = 2 * s.intermediate_size, a.top_k = s.top_k;
  a.group_elements = matrix_elements(s, a.out_features, a.in_features);
  a.most_tiles = most_tiles(s, way), a.tile_rows = tile_rows(s, way);
  return a;
}
MoeStreamArgs down_args(const MoeShape& s, MoeWay way) {
  MoeStreamArgs a = gate_up_args(s, way);
  a.in_features = s.intermediate_size, a.out_features = s.hidden_size;
  a.group_elements = matrix_elements(s, a.out_features, a.in_features);
  return a;
}
MoeDownCombineArgs combine_args(const MoeShape& s) {
  const MoeStreamArgs down = down_args(s, MoeWay::combined);
  MoeDownCombineArgs a{};
  a.rows = down.rows, a.in_features = down.in_features, a.out_features = down.out_features, a.top_k = s.top_k;
  a.tile_rows = down.tile_rows, a.group_elements = down.group_elements;
  return a;
}
MoeGroupedArgs grouped_args(const MoeShape& s, std::int32_t out_features, std::int32_t in_features) {
  MoeGroupedArgs a{};
  a.pairs.most = s.rows * s.top_k, a.num_experts = s.num_experts;
  a.in_features = in_features, a.out_features = out_features, a.tile_rows = tile_rows(s, MoeWay::grouped);
  return a;
}

bool accepts(const MoeShape& s, MoeWay way) {
  const std::int32_t pairs = s.rows * s.top_k;
  switch (way) {
    case MoeWay::combined: return moe_stream_accepts(gate_up_args(s, way)) && moe_down_combine_accepts(combine_args(s));
    case MoeWay::streamed:
    case MoeWay::planned:
      return (way == MoeWay::streamed ? pairs <= kMoePlannedPairs : pairs <= kPlannedPairsPerExpert * s.num_experts) &&
             moe_stream_accepts(gate_up_args(s, way)) && moe_stream_accepts(down_args(s, way));
    case MoeWay::grouped:
      return moe_grouped_accepts(grouped_args(s, 2 * s.intermediate_size, s.hidden_size)) &&
             moe_grouped_accepts(grouped_args(s, s.hidden_size, s.intermediate_size));
    case MoeWay::portable: return true;
  }
  return false;
}

struct Scratch {
  const MoeArgs& a;
  MoeScratch at;

  std::int32_t* ints(std::size_t offset) const { return reinterpret_cast<std::int32_t*>(a.scratch + offset); }
  MoePlan plan() const {
    return {ints(at.x_rows), ints(at.places), reinterpret_cast<GroupTile*>(a.scratch + at.tiles), ints(at.num_tiles)};
  }
  std::byte* hidden() const { return a.scratch + at.hidden; }
  std::byte* out() const { return a.scratch + at.out; }
};

void make_plan(const Scratch& s, cudaStream_t stream) {
  const MoeShape& shape = s.a.shape;
  const bool many = s.a.way == MoeWay::grouped && shape.rows * shape.top_k > kPairsOfOneBlock;
  (many ? moe_plan_many : moe_plan)(
      {s.a.ids, s.plan(), s.a.rows, shape.num_experts, shape.top_k, tile_rows(shape, s.a.way)}, stream);
}
void combine(const Scratch& s, cudaStream_t stream) {
  const MoeShape& shape = s.a.shape;
  moe_combine({s.out(), s.a.weights, s.plan().places, s.a.y, s.a.rows, shape.hidden_size, shape.top_k, shape.element},
              stream);
}

void gate_up_streamed(const Scratch& s, cudaStream_t stream) {
  MoeStreamArgs a = gate_up_args(s.a.shape, s.a.way);
  a.x = s.a.x, a.weight = s.a.gate_up, a.y = s.hidden(), a.rows = s.a.rows, a.plan = s.plan();
  if (s.a.way != MoeWay::planned) a.ids = s.a.ids;
  if (s.a.way == MoeWay::combined) a.plan = {};  // nobody asks for the places
  moe_gate_up_stream(a, stream);
}

void run_combined(const Scratch& s, cudaStream_t stream) {
  gate_up_streamed(s, stream);
  MoeDownCombineArgs a = combine_args(s.a.shape);
  a.hidden = s.hidden(), a.weight = s.a.down, a.weights = s.a.weights, a.ids = s.a.ids, a.y = s.a.y, a.rows = s.a.rows;
  moe_down_combine(a, stream);
}

void run_streamed(const Scratch& s, cudaStream_t stream) {
  if (s.a.way == MoeWay::planned) make_plan(s, stream);
  gate_up_streamed(s, stream);
  MoeStreamArgs a = down_args(s.a.shape, s.a.way);
  a.x = s.hidden(), a.weight = s.a.down, a.y = s.out(), a.rows = s.a.rows, a.plan = s.plan();
  if (s.a.way != MoeWay::planned) a.ids = s.a.ids;
  moe_down_stream(a, stream);
  combine(s, stream);
}

// The rows of x lie where the results will.
void run_grouped(const Scratch& s, cudaStream_t stream) {
  const MoeShape& shape = s.a.shape;
  make_plan(s, stream);
  moe_scatter({s.a.x, s.plan().places, s.out(), s.a.rows, shape.hidden_size, shape.top_k}, stream);
  const auto args = [&](const void* x, const void* weight, void* y, MoeGroupedArgs a) {
    a.x = x, a.weight = weight, a.y = y;
    a.pairs = {s.a.rows.most * shape.top_k, s.a.rows.live, s.a.rows.scale * shape.top_k};
    a.tiles = s.plan().tiles, a.num_tiles = s.plan().num_tiles;
    return a;
  };
  const bool described =
      moe_gate_up_grouped(
          args(s.out(), s.a.gate_up, s.hidden(), grouped_args(shape, 2 * shape.intermediate_size, shape.hidden_size)),
          stream) &&
      moe_down_grouped(
          args(s.hidden(), s.a.down, s.out(), grouped_args(shape, shape.hidden_size, shape.intermediate_size)), stream);
  if (!described)
    fail(ErrorCode::unavailable, "CUDA: the driver does not describe the experts' matrices to the copy engine",
         remedy("install a driver for CUDA 13"));
  combine(s, stream);
}

void run_portable(const Scratch& s, cudaStream_t stream) {
  const MoeShape& shape = s.a.shape;
  const bool half = shape.element == Element::bf16;
  const auto linear = half ? linear_mma : linear_f32;
  make_plan(s, stream);
  const auto matrix = [&](std::int32_t out_features, std::int32_t in_features) {
    LinearArgs l{};
    l.rows = {s.a.rows.most * shape.top_k, s.a.rows.live, s.a.rows.scale * shape.top_k};
    l.element = shape.element, l.sum_parts = 1, l.in_features = in_features, l.out_features = out_features;
    l.tiles = s.plan().tiles, l.num_tiles = s.plan().num_tiles;
    l.most_tiles = most_tiles(shape, s.a.way), l.tile_rows = tile_rows(shape, s.a.way);
    l.group_elements = matrix_elements(shape, out_features, in_features);
    return l;
  };
  LinearArgs gate_up = matrix(2 * shape.intermediate_size, shape.hidden_size);
  gate_up.x = s.a.x, gate_up.x_rows = s.plan().x_rows, gate_up.weight = s.a.gate_up;
  gate_up.y = s.a.scratch + s.at.gate_up;
  linear(gate_up, stream);
  const std::size_t up = static_cast<std::size_t>(shape.intermediate_size) * (half ? 2 : 4);
  silu_mul({gate_up.y, s.a.scratch + s.at.gate_up + up, s.hidden(), gate_up.rows, shape.intermediate_size,
            2 * shape.intermediate_size, shape.element},
           stream);
  LinearArgs down = matrix(shape.hidden_size, shape.intermediate_size);
  down.x = s.hidden(), down.weight = s.a.down, down.y = s.out(), down.sum_parts = shape.sum_parts;
  linear(down, stream);
  combine(s, stream);
}

}  // namespace

MoeWay moe_way(const MoeShape& s, int sm) {
  if (sm != kSm90 || s.element != Element::bf16 || s.sum_parts != 1) return MoeWay::portable;
  for (const MoeWay way : {MoeWay::combined, MoeWay::streamed, MoeWay::planned, MoeWay::grouped})
    if (accepts(s, way)) return way;
  return MoeWay::portable;
}

const char* moe_kernel_name(MoeWay way, Element element) {
  switch (way) {
    case MoeWay::combined: return "moe_stream_combined";
    case MoeWay::streamed: return "moe_stream";
    case MoeWay::planned: return "moe_stream_planned";
    case MoeWay::grouped: return "moe_wgmma";
    case MoeWay::portable: break;
  }
  return element == Element::bf16 ? "moe_mma" : "moe_f32";
}

MoeScratch moe_scratch(const MoeShape& s, MoeWay way) {
  const std::size_t pairs = static_cast<std::size_t>(s.rows) * static_cast<std::size_t>(s.top_k);
  const std::size_t element = s.element == Element::bf16 ? 2 : 4;
  const std::size_t inner = pairs * static_cast<std::size_t>(s.intermediate_size) * element,
                    outer = pairs * static_cast<std::size_t>(s.hidden_size) * element;
  MoeScratch at{};
  const auto place = [&](std::size_t bytes) {
    const std::size_t offset = at.bytes;
    at.bytes += round_up(bytes, kPlanAlignment);
    return offset;
  };
  at.x_rows = place(pairs * 4);
  at.places = place(pairs * 4);
  at.tiles = place(static_cast<std::size_t>(most_tiles(s, way)) * sizeof(GroupTile));
  at.num_tiles = place(4);
  at.hidden = place(inner);
  if (way == MoeWay::portable) at.gate_up = place(2 * inner);
  if (way != MoeWay::combined) at.out = place(outer);
  return at;
}

void run_moe(const MoeArgs& a, cudaStream_t stream) {
  const Scratch s{a, moe_scratch(a.shape, a.way)};
  switch (a.way) {
    case MoeWay::combined: return run_combined(s, stream);
    case MoeWay::streamed:
    case MoeWay::planned: return run_streamed(s, stream);
    case MoeWay::grouped: return run_grouped(s, stream);
    case MoeWay::portable: return run_portable(s, stream);
  }
}

}  // namespace cajal::cuda
