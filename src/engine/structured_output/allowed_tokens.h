#pragma once
// Which tokens may come next in an answer: a pure function of the request and of the answer's own tokens, whoever else runs,
// however the prompt was cut, and whether a token was guessed.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/structured_output/grammar.h"

namespace cajal {

class Tokenizer;

// What a tokenizer has for thoughts.
struct ThinkingTokens {
  std::int32_t begin = -1, end = -1;   // <think> and </think>
  std::vector<std::int32_t> closing;   // what ends a thought whose budget is spent, `end` among it
  std::vector<std::int32_t> newlines;  // tokens of nothing but ends of lines
};
// Null where <think> and </think> are no tokens.
std::shared_ptr<const ThinkingTokens> thinking_tokens(const Tokenizer& tokenizer);
// Whether a prompt ends within a thought.
bool ends_in_thought(const ThinkingTokens& tokens, std::span<const std::int32_t> prompt);

struct LogitBias {
  std::int32_t token_id = 0;
  float bias = 0;
};

// What a request forbids, and favours.
struct TokenConstraints {
  std::shared_ptr<const CompiledGrammar> grammar;  // null: none. Of what comes after the thought, if there is one
  std::int64_t min_tokens = 0;  // before them no ending token comes, unless the grammar leaves no other
  std::vector<LogitBias> logit_bias;

  std::shared_ptr<const ThinkingTokens> thinking;  // null: nothing below counts
  bool in_thought = false;                         // the answer begins in the middle of one
  bool may_think = false;                          // or its first token may begin one
  std::optional<std::int64_t> thinking_token_budget;

  bool empty() const { return !grammar && min_tokens == 0 && logit_bias.empty() && !thinking_token_budget; }
};

// Throws Error(invalid_argument) that names what is out of its range.
void check_constraints(const TokenConstraints& constraints, std::int64_t vocab_size, std::int64_t max_new_tokens);

class AllowedTokens {
 public:
  // Both must outlive this.
  AllowedTokens(const TokenConstraints& constraints, std::span<const std::int32_t> ending_tokens);

  // Adds the bias to logits, then makes those of tokens that may not come -infinity. False if none may.
  [[nodiscard]] bool apply(std::span<float> logits);
  void accept(std::int32_t token);
  // Finds out what apply() will need, for `vocab_size` logits: a good use of time in which the model runs.
  void prepare(std::size_t vocab_size);
  // How many of the tokens may follow one another, as far as that is known: the rest need not be computed.
  std::int64_t count_valid(std::span<const std::int32_t> draft) const;

 private:
  enum class Phase : std::uint8_t { begins, thinks, closes, has_thought, answers };
  bool is_ending(std::int32_t token) const;
  void forbid_endings(std::span<float> logits) const;
  bool apply_grammar(std::span<float> logits);
  bool budget_is_spent() const;

  const TokenConstraints& constraints_;
  std::span<const std::int32_t> ending_tokens_;
  std::unique_ptr<GrammarMatcher> matcher_;
  Phase phase_ = Phase::answers;
  std::int64_t num_tokens_ = 0, num_thought_ = 0;
  std::size_t num_closed_ = 0;  // tokens of `closing` that came
  std::vector<std::int32_t> bitmask_;
  bool is_prepared_ = false;
};

}  // namespace cajal
