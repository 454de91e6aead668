#include "backends/cuda/kernel_regions.h"

#include <algorithm>

#include "backends/cuda/kernels/linear.h"
#include "backends/cuda/program.h"
#include "base/checked.h"
#include "compiler/passes.h"

namespace cajal::cuda {
namespace {

constexpr int kFewRows = 16;  // which others stream weights for

bool wgmma_gates(const Graph& graph, const Node& region) {
  const TensorType &x = graph.type(region.inputs[0]), &weight = graph.type(region.inputs[1]);
  LinearArgs a{};
  a.rows.most = checked_cast<std::int32_t>(x.shape[0], "rows");
  a.in_features = checked_cast<std::int32_t>(weight.shape[1], "a size on the device");
  a.out_features = checked_cast<std::int32_t>(weight.shape[0], "a size on the device");
  const auto& body = std::get<ops::Region>(region.op).body->nodes();
  const auto linear =
      std::find_if(body.begin(), body.end(), [](const Node& n) { return std::holds_alternative<ops::Linear>(n.op); });
  a.sum_parts = std::get<ops::Linear>(linear->op).sum_parts;
  a.element = x.dtype == DType::bf16 ? Element::bf16 : Element::f32;
  a.gated = true;
  return a.rows.most > kFewRows && linear_wgmma_accepts(a);
}

}  // namespace

Graph with_kernel_regions(const Graph& prepared, int sm) {
  Graph graph = inline_regions(prepared, has_region_kernel);
  if (sm != 90) return graph;
  constexpr std::string_view kKinds[] = {kLinearSiluMulHalves, kSiluMulHalves};
  const Graph fused = fuse_regions(
      inline_regions(graph, [](auto kind) { return kind != kSiluMulHalves && has_region_kernel(kind); }), kKinds);
  const auto nodes = fused.nodes();
  const bool all = std::all_of(nodes.begin(), nodes.end(), [&](const Node& node) {
    const auto* region = std::get_if<ops::Region>(&node.op);
    return !region || region->kind != kLinearSiluMulHalves || wgmma_gates(fused, node);
  });
  return all ? fused : graph;
}

}  // namespace cajal::cuda
