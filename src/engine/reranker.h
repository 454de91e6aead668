#pragma once
// How well documents answer a query, by a causal model that says "yes" or "no": Qwen3-Reranker.
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/embedder.h"
#include "engine/pooling_runner.h"
#include "text/tokenizer.h"

namespace cajal {

// What Qwen3-Reranker's model card takes where nobody says.
inline constexpr std::string_view kDefaultRerankInstruction =
    "Given a web search query, retrieve relevant passages that answer the query";

// Puts query and document into the prompt of Qwen3-Reranker. What they and the instruction say is text, also where it
// spells a control token.
class RerankPrompt {
 public:
  // Error(unsupported) if the vocabulary lacks "yes", "no" or the control tokens of the prompt.
  explicit RerankPrompt(const Tokenizer& tokenizer);

  // A longer prompt than the limit allows is an Error, or loses the end of its document.
  std::vector<std::int32_t> encode(std::string_view instruction, std::string_view query, std::string_view document,
                                   const LengthLimit& limit) const;
  std::int32_t yes() const { return yes_; }
  std::int32_t no() const { return no_; }

 private:
  const Tokenizer& tokenizer_;
  std::vector<std::int32_t> prefix_, suffix_;
  std::int32_t yes_ = 0, no_ = 0;
};

// The probability of "yes" against "no" after each prompt, in their order; each depends on its prompt alone, bit for bit.
// Error(data_loss) if the model gives numbers that are not finite.
std::vector<double> rerank(const Model& model, std::span<const std::vector<std::int32_t>> prompts,
                           const RerankPrompt& words, const PoolingOptions& steps);

// Indices of `scores`, the highest score first and the lower index among equals; at most `top_n` of them.
std::vector<std::size_t> by_score(std::span<const double> scores, std::size_t top_n);

}  // namespace cajal
