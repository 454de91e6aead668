#include "compiler/quantize_weights.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "compiler/rewrite.h"

namespace cajal {
namespace {

constexpr std::array<const char*, kWeightFamilies> kFamilyNames = {"embed_tokens", "lm_head", "attention", "mlp",
                                                                   "experts"};

int bits_of_kind(std::string_view kind, std::string_view where) {
  if (kind == "none") return 0;
  if (kind == "int8") return 8;
  if (kind == "int4") return 4;
  if (kind == "lossless") return kLosslessBits;
  fail(ErrorCode::invalid_argument, "quantization", where.empty() ? "" : " of ", where, " is '", kind,
       "', expected none, lossless, int8 or int4");
}

std::string kind_of_bits(int bits) {
  if (bits == kLosslessBits) return "lossless";
  return bits == 0 ? "none" : "int" + std::to_string(bits);
}

std::size_t family_of_name(std::string_view name) {
  for (std::size_t f = 0; f < kWeightFamilies; ++f)
    if (name == kFamilyNames[f]) return f;
  fail(ErrorCode::invalid_argument, "quantization of '", name,
       "': no such family of weights, expected embed_tokens, lm_head, attention, mlp or experts");
}

void set_all(QuantizationRecipe& recipe, int bits) {
  recipe.bits.fill(bits);
  if (bits != 4) return;
  recipe.bits_of(WeightFamily::embed_tokens) = 8;
  recipe.bits_of(WeightFamily::lm_head) = 8;
}

// The families of every value that is a parameter; several where several nodes read it.
class Families {
 public:
  explicit Families(const Graph& graph) : graph_(graph), uses_(graph.num_values()) {
    for (const Node& node : graph.nodes())
      for (std::size_t i = 0; i < node.inputs.size(); ++i) add(node, i);
  }

  // The more precise where there are several; 0 where something else reads it too.
  int bits_of(Value v, const QuantizationRecipe& recipe) const {
    const Uses& uses = uses_[v.id];
    if (uses.other) return 0;
    int bits = -1;
    for (std::size_t f = 0; f < kWeightFamilies; ++f) {
      if (!uses.of[f]) continue;
      const bool exact = bits == 0 || recipe.bits[f] == 0;
      bits = exact ? 0 : std::max(bits, recipe.bits[f]);
    }
    return std::max(bits, 0);
  }

 private:
  struct Uses {
    std::array<bool, kWeightFamilies> of{};
    bool other = false;
  };

  void add(const Node& node, std::size_t input) {
    const Value v = node.inputs[input];
    Uses& uses = uses_[v.id];
    if (const auto family = family_of(node, input))
      uses.of[static_cast<std::size_t>(*family)] = true;
    else
      uses.other = true;
  }

  std::optional<WeightFamily> family_of(const Node& node, std::size_t input) const {
    if (std::holds_alternative<ops::Embedding>(node.op) && input == 0) return WeightFamily::embed_tokens;
    if (const int experts = expert_weights_input(node.op); experts >= 0 && input >= static_cast<std::size_t>(experts))
      return WeightFamily::experts;
    if (!std::holds_alternative<ops::Linear>(node.op) || input != 1 || feeds_gate(node.results[0])) return std::nullopt;
    if (node.name.find("self_attn.") != std::string::npos) return WeightFamily::attention;
    return node.name.find("mlp.") != std::string::npos ? WeightFamily::mlp : WeightFamily::lm_head;
  }

  // What decides between experts, or how much of one counts, is small and stays exact.
  bool feeds_gate(Value v) const {
    return std::any_of(graph_.nodes().begin(), graph_.nodes().end(), [&](const Node& node) {
      const bool gate =
          std::holds_alternative<ops::Router>(node.op) || std::holds_alternative<ops::SigmoidMul>(node.op);
      return gate && node.inputs[0] == v;
    });
  }

  const Graph& graph_;
  std::vector<Uses> uses_;
};

Storage storage_of(const TensorType& type, const QuantizationRecipe& recipe, int bits) {
  if (bits != kLosslessBits) return Quantized{.bits = bits, .group_size = recipe.group_size};
  if (type.dtype != DType::bf16)
    fail(ErrorCode::unsupported, "lossless weights of ", to_string(type.dtype), ", expected bf16",
         remedy("use --dtype bfloat16, or --quantization none"));
  return Lossless{};
}

}  // namespace

const char* to_string(WeightFamily family) { return kFamilyNames[static_cast<std::size_t>(family)]; }

QuantizationRecipe quantization_recipe(std::string_view kind, int group_size, std::string_view overrides) {
  QuantizationRecipe recipe;
  if (group_size != 32 && group_size != 128)
    fail(ErrorCode::invalid_argument, "quantization by groups of ", group_size, ", expected 32 or 128");
  recipe.group_size = group_size;
  set_all(recipe, bits_of_kind(kind, ""));
  while (!overrides.empty()) {
    const std::string_view one = overrides.substr(0, overrides.find(','));
    overrides.remove_prefix(std::min(one.size() + 1, overrides.size()));
    const auto equals = one.find('=');
    if (equals == std::string_view::npos)
      fail(ErrorCode::invalid_argument, "quantization of '", one, "': expected FAMILY=KIND, as in lm_head=int4");
    recipe.bits[family_of_name(one.substr(0, equals))] = bits_of_kind(one.substr(equals + 1), one.substr(0, equals));
  }
  return recipe;
}

std::string to_string(const QuantizationRecipe& recipe) {
  if (recipe.none()) return "none";
  QuantizationRecipe plain;
  set_all(plain, recipe.bits_of(WeightFamily::mlp));
  std::string text = kind_of_bits(recipe.bits_of(WeightFamily::mlp));
  if (recipe.group_size != 32) text += " by " + std::to_string(recipe.group_size);
  for (std::size_t f = 0; f < kWeightFamilies; ++f)
    if (recipe.bits[f] != plain.bits[f])
      text += std::string(", ") + kFamilyNames[f] + " " + kind_of_bits(recipe.bits[f]);
  return text;
}

Graph quantize_weights(const Graph& graph, const QuantizationRecipe& recipe) {
  if (recipe.none()) return graph;
  const Families families(graph);
  Rewriter rewriter(graph);
  for (const Node& node : graph.nodes()) {
    if (!is_leaf(node.op)) continue;
    const Value v = node.results[0];
    TensorType type = graph.type(v);
    const bool matrix = std::holds_alternative<ops::Parameter>(node.op) && type.shape.rank() >= 2 && type.plain();
    if (const int bits = matrix ? families.bits_of(v, recipe) : 0) type.storage = storage_of(type, recipe, bits);
    rewriter.map(v, rewriter.to().add_leaf(node.op, type, node.name));
  }
  for (const Node& node : graph.nodes())
    if (!is_leaf(node.op)) rewriter.copy(node);
  return rewriter.finish();
}

}  // namespace cajal
