#pragma once
// Which weights are kept in how many bits. Unlike the passes of passes.h this one changes results: it says that weights are
// to be rounded when they are loaded; all but those of kind lossless.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "graph/graph.h"

namespace cajal {

// What a weight is for. Norms, biases and routers are in no family, and never quantised.
enum class WeightFamily : std::uint8_t { embed_tokens, lm_head, attention, mlp, experts };
inline constexpr int kWeightFamilies = 5;
const char* to_string(WeightFamily family);

inline constexpr int kLosslessBits = 12;  // of weights that Lossless storage keeps as they are

struct QuantizationRecipe {
  std::array<int, kWeightFamilies> bits{};  // by family: 8, 4, kLosslessBits, or 0 for weights as they are
  int group_size = 32;

  int& bits_of(WeightFamily family) { return bits[static_cast<std::size_t>(family)]; }
  int bits_of(WeightFamily family) const { return bits[static_cast<std::size_t>(family)]; }
  bool none() const { return bits == decltype(bits){}; }
  bool operator==(const QuantizationRecipe&) const = default;
};

// `kind` is none, lossless, int8 or int4; int4 keeps embeddings and head in 8 bits, whose errors reach every token directly.
// `overrides` are families with kinds of their own, "lm_head=int4,attention=none", or empty. `group_size` is 32 or 128.
// Error(invalid_argument) names the word that is unknown.
QuantizationRecipe quantization_recipe(std::string_view kind, int group_size = 32, std::string_view overrides = {});
// "none", "int8", "int4 by 128", "int4, lm_head int4"
std::string to_string(const QuantizationRecipe& recipe);

// Gives the weights of linears, experts and embeddings the storage that the recipe names, before projections are fused. A
// weight of two families, an embedding that is the head too, has the more precise of both. Error(unsupported) for lossless
// weights that are not bf16.
Graph quantize_weights(const Graph& graph, const QuantizationRecipe& recipe);

}  // namespace cajal
