#pragma once
// From public parameters to what embeddings and reranking are made of.
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/public.h"
#include "engine/embedder.h"
#include "engine/reranker.h"

namespace cajal {

// What a call is checked against.
struct PoolingContext {
  const Model& model;
  const Tokenizer* tokenizer;  // null: the folder has none
  std::string folder;
  std::int64_t max_model_len;
  std::int64_t max_num_batched_tokens;
};

// Token ids, and what to do with them. Throws Error for what makes no sense, before anything runs.
struct EmbedRequest {
  std::vector<std::vector<std::int32_t>> texts;
  EmbedOptions options;
};
EmbedRequest make_embed_request(const PoolingContext& context, std::span<const api::Prompt> prompts,
                                const api::EmbedOptions& options);

struct RerankRequest {
  std::vector<std::vector<std::int32_t>> prompts;  // one a document
  RerankPrompt words;
};
RerankRequest make_rerank_request(const PoolingContext& context, std::string_view query,
                                  std::span<const std::string> documents, const api::RerankOptions& options);

std::int64_t count_tokens(std::span<const std::vector<std::int32_t>> texts);

}  // namespace cajal
