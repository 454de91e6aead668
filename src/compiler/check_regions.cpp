#include "compiler/check_regions.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "compiler/passes.h"

namespace cajal {
namespace {

constexpr std::array<std::string_view, 3> kKnown = {kAddRmsNorm, kSiluMulHalves, kQkNormRopeKvWrite};

// The number of the first line where the two differ.
std::size_t first_difference(std::string_view a, std::string_view b) {
  const auto at = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return 1 + static_cast<std::size_t>(std::count(a.begin(), at, '\n'));
}

}  // namespace

// The pass knows the patterns. Taking all regions apart and fusing again gives the same graph if each is what the pass
// makes; anything else in a body, or another use of what it hides, comes out differently.
void check_regions(const Graph& graph, std::string_view what) {
  std::vector<std::string_view> kinds;
  for (const Node& node : graph.nodes()) {
    const auto* region = std::get_if<ops::Region>(&node.op);
    if (!region) continue;
    const auto known = std::find(kKnown.begin(), kKnown.end(), region->kind);
    if (known == kKnown.end())
      fail(ErrorCode::data_loss, what, ": ", node.name, " is a region of the unknown kind '", region->kind, "'",
           remedy("export the model again"));
    if (std::find(kinds.begin(), kinds.end(), *known) == kinds.end()) kinds.push_back(*known);
  }
  if (kinds.empty()) return;
  const Graph again = fuse_regions(inline_regions(graph, [](std::string_view) { return false; }), kinds);
  const std::string expected = to_text(again), found = to_text(graph);
  if (found != expected)
    fail(ErrorCode::data_loss, what, ", line ", first_difference(found, expected),
         ": a region's body is not what its kind promises", remedy("export the model again"));
}

}  // namespace cajal
