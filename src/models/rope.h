#pragma once
// Rotary position embeddings: every kind that Hugging Face's modeling_rope_utils.py knows for Qwen3, resolved from
// config.json into plain numbers, and from those into the tables that the graph's RotaryTable carries.
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "graph/op.h"

namespace cajal {

enum class RopeKind : std::uint8_t { standard, linear, dynamic, yarn, llama3, longrope, proportional };
const char* to_string(RopeKind kind);  // as config.json spells it: "default", "linear", …

// Options of the kinds that do not use them keep the values here. Numbers are Python's floats, as in the file: Hugging
// Face rounds them to f32 at certain places only, which rotary_table repeats.
struct RopeConfig {
  RopeKind kind = RopeKind::standard;
  double theta = 10000.0;
  double factor = 1.0;            // linear, dynamic, yarn, llama3; of longrope only attention_factor depends on it
  double attention_factor = 1.0;  // cosines and sines are multiplied by it: yarn, longrope
  // The length that the model was trained on before it was stretched: yarn, llama3; for dynamic and longrope the length
  // beyond which a request gets other frequencies. 0 for the other kinds.
  std::int64_t original_max_position_embeddings = 0;
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double partial_rotary_factor = 1.0;                    // proportional: the share of a head that is rotated
  std::vector<double> short_factor, long_factor;         // longrope: head_dim / 2 each

  bool operator==(const RopeConfig&) const = default;
};

// Reads rope_parameters, rope_scaling and rope_theta of a config.json; `file` is what errors call it. What Hugging Face
// would refuse, or would compute in a way that we do not, is an Error that names the key.
RopeConfig read_rope_config(const Json& config, std::string_view file, int head_dim,
                            std::int64_t max_position_embeddings);

// The frequencies as Hugging Face computes them: in f32, operation by operation.
ops::RotaryTable rotary_table(const RopeConfig& rope, int head_dim, std::int64_t max_position_embeddings);

}  // namespace cajal
