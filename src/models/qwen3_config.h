#pragma once
// config.json of Qwen3, Qwen3-MoE and Qwen2-MoE, as Hugging Face's Qwen3Config, Qwen3MoeConfig and Qwen2MoeConfig
// understand it.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "models/rope.h"
#include "tensor/dtype.h"

namespace cajal {

// The keys of config.json under their own names, resolved: defaults are filled in and what depends on several keys is
// worked out, so that nothing that reads this needs to know the file.
struct Qwen3Config {
  std::string model_type;   // "qwen3", "qwen3_moe" or "qwen2_moe"
  bool base_model = false;  // the architectures name the model without a head: Qwen3Model, Qwen3MoeModel, Qwen2MoeModel
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;  // of the dense MLPs; 0 where the file has none and no layer needs it
  int num_hidden_layers = 0;
  int num_attention_heads = 0;
  int num_key_value_heads = 0;
  int head_dim = 0;
  float rms_norm_eps = 1e-6f;
  bool attention_bias = false;  // on q, k, v and o alike
  bool qkv_bias = false;        // on q, k and v alone: Qwen2-MoE's
  bool qk_norm = true;          // each head of q and k is normalised before the rotation; not in Qwen2-MoE
  bool tie_word_embeddings = false;
  std::int64_t max_position_embeddings = 0;
  // What the checkpoint says it is stored in, and --dtype auto takes. Where the file says nothing, has_dtype is false and
  // this a guess: who sees the weights should take their dtype instead, as Hugging Face's "auto" does.
  DType dtype = DType::bf16;
  bool has_dtype = false;
  RopeConfig rope;
  std::vector<std::int64_t> sliding_window;  // per layer: keys a query sees, itself included; 0 is all of them

  // Mixtures of experts; a dense model has num_experts 0.
  int num_experts = 0;
  int num_experts_per_tok = 0;
  std::int64_t moe_intermediate_size = 0;
  bool norm_topk_prob = false;
  std::vector<bool> sparse_layer;                    // per layer: a mixture of experts, or a dense MLP
  std::int64_t shared_expert_intermediate_size = 0;  // of the expert that every row takes, in Qwen2-MoE; 0: none

  std::vector<std::int32_t> eos_token_id;  // any of them ends a text; may be empty
  std::optional<std::int32_t> bos_token_id, pad_token_id;

  bool operator==(const Qwen3Config&) const = default;
};

// Reads a parsed config.json; `file` is what errors call it. Throws Error(unsupported) for what changes the result and
// is not implemented, and Error(invalid_argument) for what makes no sense; keys that change nothing are ignored.
Qwen3Config read_qwen3_config(const Json& config, std::string_view file);
Qwen3Config load_qwen3_config(const std::string& folder);  // reads folder/config.json

// How long a request may be when the user does not say: max_position_embeddings, times the factor for the RoPE kinds
// that stretch a model beyond it (see qwen3_config.cpp).
std::int64_t default_max_model_len(const Qwen3Config& config);

}  // namespace cajal
