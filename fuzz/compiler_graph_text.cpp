// Any bytes as the text of a graph: reading ends in a graph or an Error. A graph prints to text that reads back to the same,
// and goes through every pass and the memory plan; what they make is as sound as what they were given.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "compiler/check_regions.h"
#include "compiler/memory_plan.h"
#include "compiler/passes.h"

namespace {

using cajal::Graph;

void check_text(const Graph& graph) {
  cajal::verify(graph);
  const std::string text = cajal::to_text(graph);
  CAJAL_CHECK(cajal::to_text(cajal::parse_graph(text, "printed")) == text, text);
}

void check_plan(const Graph& graph) {
  const cajal::Schedule schedule = cajal::sequential_schedule(graph);
  const std::string problem = find_overlap(graph, schedule, plan_memory(graph, schedule));
  CAJAL_CHECK(problem.empty(), problem);
}

void check_passes(const Graph& graph) {
  constexpr std::array<std::string_view, 3> kKinds = {cajal::kAddRmsNorm, cajal::kSiluMulHalves,
                                                      cajal::kQkNormRopeKvWrite};
  const auto tile = [](const cajal::TensorType&) { return cajal::Packed{16, 2}; };
  const Graph flat = inline_regions(graph, [](std::string_view) { return false; });
  check_text(flat);
  const Graph stored = assign_storage(fuse_projections(flat), {tile, tile, tile});
  check_text(stored);
  const Graph prepared = eliminate_dead_code(fuse_regions(stored, kKinds));
  check_text(prepared);
  check_plan(prepared);
  check_text(inline_regions(prepared, [](std::string_view) { return false; }));
}

// Sizes are the one thing that a pass may find too large: it joins and pads.
template <class Body>
void only_errors_of_size(Body&& body) {
  try {
    body();
  } catch (const cajal::Error& e) {
    const bool about_size =
        e.message().find("too large") != std::string::npos || e.message().find("overflows") != std::string::npos;
    CAJAL_CHECK(about_size, e.message());
  }
}

std::optional<Graph> parse(std::string_view text) {
  try {
    return cajal::parse_graph(text, "input");
  } catch (const cajal::Error& e) {
    CAJAL_CHECK(!e.message().empty());
    return std::nullopt;
  }
}

}  // namespace

namespace {

// A file's own regions may say anything.
void check_regions_of_file(const Graph& graph) {
  try {
    check_regions(graph, "input");
  } catch (const cajal::Error& e) {
    CAJAL_CHECK(!e.message().empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto graph = parse({reinterpret_cast<const char*>(data), size});
  if (!graph) return 0;
  check_text(*graph);
  check_regions_of_file(*graph);
  only_errors_of_size([&] { check_plan(*graph); });
  only_errors_of_size([&] { check_passes(*graph); });
  return 0;
}
