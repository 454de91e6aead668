#pragma once
// From what a request wishes to what the engine forbids, for one model and its tokenizer.
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/structured_output/allowed_tokens.h"
#include "engine/structured_output/grammar_compiler.h"

namespace cajal {

struct ConstraintWishes {
  std::optional<StructuredOutputs> structured_outputs;
  std::int64_t min_tokens = 0;
  std::vector<LogitBias> logit_bias;
  std::optional<std::int64_t> thinking_token_budget;
  bool may_think = false;   // the answer may begin with a thought although the prompt has not begun one
  bool ignore_eos = false;  // which leaves no end to what has a structure
};

// Any thread may use it, many at once.
class RequestConstraints {
 public:
  // The tokenizer may be null and must outlive this.
  RequestConstraints(const Tokenizer* tokenizer, std::int64_t vocab_size, std::span<const std::int32_t> eos_token_ids);

  // Compiles what is to be compiled, once for all prompts of a request, and may wait for that. Throws Error whose message
  // begins with the wish that cannot be met: "structured_outputs: …".
  TokenConstraints make(const ConstraintWishes& wishes);
  // Where such an answer begins depends on its prompt: whether that ends within a thought.
  void begin_after(TokenConstraints& constraints, std::span<const std::int32_t> prompt) const;

 private:
  std::shared_ptr<const CompiledGrammar> compile(const StructuredOutputs& what);

  const Tokenizer* tokenizer_;
  std::int64_t vocab_size_;
  std::vector<std::int32_t> eos_token_ids_;
  std::mutex mutex_;  // of what is made when first asked for
  std::unique_ptr<GrammarCompiler> compiler_;
  bool looked_for_thinking_ = false;
  std::shared_ptr<const ThinkingTokens> thinking_;
};

}  // namespace cajal
