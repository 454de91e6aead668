// Regions from a file: what the passes make is accepted, every other body is refused before a kernel runs instead of it.
#include "compiler/check_regions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "compiler/model_graphs.h"
#include "compiler/passes.h"

namespace cajal {
namespace {

using ::testing::HasSubstr;

constexpr std::array<std::string_view, 3> kAll = {kAddRmsNorm, kSiluMulHalves, kQkNormRopeKvWrite};

Graph prepared(const Graph& graph) {
  const auto tile = [](const TensorType&) { return Packed{16, 2}; };
  return eliminate_dead_code(fuse_regions(assign_storage(fuse_projections(graph), {tile, tile, tile}), kAll));
}
Graph small_model() { return prepared(build_qwen3(test::small_config(false), {.bucket = {8, 2, 2, 2}})); }

std::string refusal(const std::string& text) {
  try {
    check_regions(parse_graph(text, "graph.txt"), "graph.txt");
  } catch (const Error& e) {
    return e.message();
  }
  return "accepted";
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(CheckRegions, AcceptsWhatThePassesMake) {
  for (const auto& [name, graph] : test::small_models())
    EXPECT_EQ(refusal(to_text(prepared(graph))), "accepted") << name;
  for (const std::string& folder : test::released_models()) {
    const Graph graph = prepared(build_qwen3(load_qwen3_config(folder), {.bucket = {2, 1, 1, 1}}));
    EXPECT_EQ(refusal(to_text(graph)), "accepted") << folder;
  }
}

TEST(CheckRegions, RefusesABodyOfAnotherMeaning) {
  const std::string text = to_text(small_model());
  // The halves of silu_mul_halves the other way round: up * silu(gate) became gate * silu(up).
  const auto silu = text.find("silu_mul(%1, %2)");
  ASSERT_NE(silu, std::string::npos);
  std::string swapped = text;
  swapped.replace(silu, 16, "silu_mul(%2, %1)");
  EXPECT_THAT(refusal(swapped), HasSubstr("a region's body is not what its kind promises"));
  // The kind of another region: the types fit, the kernel would compute something else.
  EXPECT_THAT(refusal(replaced(text, "kind=\"add_rms_norm\"", "kind=\"silu_mul_halves\"")),
              HasSubstr("not what its kind promises"));
  // A norm with another epsilon for q than for k.
  const auto body = text.find("kind=\"qk_norm_rope_kv_write\"");
  ASSERT_NE(body, std::string::npos);
  std::string uneven = text;
  const auto epsilon = uneven.find("epsilon=", body);
  uneven.replace(epsilon, uneven.find('}', epsilon) - epsilon, "epsilon=0.5");
  EXPECT_THAT(refusal(uneven), HasSubstr("not what its kind promises"));
}

TEST(CheckRegions, RefusesAKindThatItDoesNotKnow) {
  EXPECT_THAT(refusal(replaced(to_text(small_model()), "kind=\"add_rms_norm\"", "kind=\"add_layer_norm\"")),
              HasSubstr("unknown kind 'add_layer_norm'"));
}

}  // namespace
}  // namespace cajal
