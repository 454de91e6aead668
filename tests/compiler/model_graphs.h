#pragma once
// Graphs of whole models: those of the released Qwen3 models, and small ones for what those do not have.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "models/qwen3.h"

namespace cajal::test {

inline std::vector<std::string> released_models() {
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(CAJAL_SOURCE_DIR) + "/bench/shapes"))
    if (std::filesystem::exists(entry.path() / "config.json")) folders.push_back(entry.path().string());
  std::sort(folders.begin(), folders.end());
  return folders;
}

inline Qwen3Config small_config(bool experts) {
  Qwen3Config c;
  c.model_type = experts ? "qwen3_moe" : "qwen3";
  c.vocab_size = 96;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 8;
  c.max_position_embeddings = 512;
  c.sliding_window = {0, 0};
  c.sparse_layer = {experts, experts};
  if (experts) {
    c.num_experts = 6;
    c.num_experts_per_tok = 2;
    c.moe_intermediate_size = 16;
    c.norm_topk_prob = true;
  }
  return c;
}

// What Qwen2-MoE has: biases before the rotation, no norms of heads, a shared expert behind a gate.
inline Qwen3Config small_qwen2_moe() {
  Qwen3Config c = small_config(true);
  c.model_type = "qwen2_moe";
  c.qkv_bias = true;
  c.qk_norm = c.norm_topk_prob = false;
  c.shared_expert_intermediate_size = 24;
  return c;
}

inline std::vector<Bucket> some_buckets() { return {{1, 1, 1, 1}, {16, 4, 3, 4}, {512, 1, 64, 1}}; }

inline std::vector<std::pair<std::string, Graph>> small_models(DType dtype = DType::bf16) {
  std::vector<std::pair<std::string, Graph>> models;
  for (const bool experts : {false, true})
    for (const bool bias : {false, true})
      for (const bool tied : {false, true}) {
        Qwen3Config c = small_config(experts);
        c.attention_bias = bias;
        for (const Bucket& b : some_buckets()) {
          Qwen3GraphOptions o{.bucket = b, .dtype = dtype};
          if (tied) o.lm_head_tensor = o.embedding_tensor;
          models.emplace_back(detail::join(c.model_type, bias ? " bias" : "", tied ? " tied" : "", " T=", b.num_tokens),
                              build_qwen3(c, o));
        }
      }
  return models;
}

}  // namespace cajal::test
