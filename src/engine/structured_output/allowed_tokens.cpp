#include "engine/structured_output/allowed_tokens.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "text/tokenizer.h"

namespace cajal {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
// As Qwen's documentation ends a thought that has become too long.
constexpr std::string_view kEarlyStop =
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now.\n"
    "</think>\n\n";

bool contains(std::span<const std::int32_t> list, std::int32_t token) {
  return std::find(list.begin(), list.end(), token) != list.end();
}

void forbid(std::span<float> logits, std::int32_t token) {
  if (token >= 0 && static_cast<std::size_t>(token) < logits.size())
    logits[static_cast<std::size_t>(token)] = kForbidden;
}

// Leaves one token, or none if it is not among the logits.
bool allow_only(std::span<float> logits, std::int32_t token) {
  const bool there = token >= 0 && static_cast<std::size_t>(token) < logits.size();
  std::fill(logits.begin(), logits.end(), kForbidden);
  if (there) logits[static_cast<std::size_t>(token)] = 0;
  return there;
}

bool has_bit(std::span<const std::int32_t> bitmask, std::size_t i) {
  return (static_cast<std::uint32_t>(bitmask[i / 32]) >> (i % 32) & 1) != 0;
}

void set_bit(std::span<std::int32_t> bitmask, std::int32_t token) {
  const auto i = static_cast<std::size_t>(token);
  if (token >= 0 && i / 32 < bitmask.size())
    bitmask[i / 32] =
        static_cast<std::int32_t>(static_cast<std::uint32_t>(bitmask[i / 32]) | (std::uint32_t{1} << (i % 32)));
}

}  // namespace

std::shared_ptr<const ThinkingTokens> thinking_tokens(const Tokenizer& tokenizer) {
  const auto begin = tokenizer.id_of("<think>"), end = tokenizer.id_of("</think>");
  if (!begin || !end) return nullptr;
  auto tokens = std::make_shared<ThinkingTokens>();
  tokens->begin = *begin;
  tokens->end = *end;
  tokens->closing = tokenizer.encode(kEarlyStop);
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view bytes = tokenizer.token_bytes(id);
    if (!bytes.empty() && bytes.find_first_not_of('\n') == std::string_view::npos) tokens->newlines.push_back(id);
  }
  return tokens;
}

bool ends_in_thought(const ThinkingTokens& tokens, std::span<const std::int32_t> prompt) {
  const auto last = std::find_if(prompt.rbegin(), prompt.rend(),
                                 [&](std::int32_t id) { return id == tokens.begin || id == tokens.end; });
  return last != prompt.rend() && *last == tokens.begin;
}

void check_constraints(const TokenConstraints& c, std::int64_t vocab_size, std::int64_t max_new_tokens) {
  constexpr std::size_t kMostBiases = 1024;
  constexpr float kMostBias = 100;
  if (c.min_tokens < 0 || c.min_tokens > max_new_tokens)
    fail(ErrorCode::invalid_argument, "min_tokens is ", c.min_tokens, ", expected 0 to ", max_new_tokens,
         ", which is the most that may come");
  if (c.logit_bias.size() > kMostBiases)
    fail(ErrorCode::invalid_argument, "logit_bias has ", c.logit_bias.size(), " tokens, expected at most ",
         kMostBiases);
  for (const auto& [token, bias] : c.logit_bias) {
    if (token < 0 || token >= vocab_size)
      fail(ErrorCode::invalid_argument, "logit_bias: token id ", token, " is outside the vocabulary, expected 0..",
           vocab_size - 1);
    if (!(bias >= -kMostBias && bias <= kMostBias))
      fail(ErrorCode::invalid_argument, "logit_bias of token ", token, " is ", bias, ", expected -100 to 100");
  }
  if (c.thinking_token_budget && *c.thinking_token_budget < 0)
    fail(ErrorCode::invalid_argument, "thinking_token_budget is ", *c.thinking_token_budget, ", expected 0 or more");
}

AllowedTokens::AllowedTokens(const TokenConstraints& constraints, std::span<const std::int32_t> ending_tokens)
    : constraints_(constraints), ending_tokens_(ending_tokens) {
  if (constraints.grammar) matcher_ = constraints.grammar->matcher();
  if (constraints.thinking)
    phase_ = constraints.in_thought ? Phase::thinks : constraints.may_think ? Phase::begins : Phase::answers;
}

bool AllowedTokens::is_ending(std::int32_t token) const { return contains(ending_tokens_, token); }

void AllowedTokens::forbid_endings(std::span<float> logits) const {
  for (const std::int32_t token : ending_tokens_) forbid(logits, token);
}

bool AllowedTokens::budget_is_spent() const {
  return constraints_.thinking_token_budget && num_thought_ >= *constraints_.thinking_token_budget;
}

void AllowedTokens::prepare(std::size_t vocab_size) {
  const bool structured = phase_ == Phase::begins || phase_ == Phase::has_thought || phase_ == Phase::answers;
  if (is_prepared_ || !matcher_ || !structured) return;
  bitmask_.resize(bitmask_words(vocab_size));
  matcher_->fill_bitmask(bitmask_);
  if (phase_ == Phase::begins) set_bit(bitmask_, constraints_.thinking->begin);
  // What stands between a thought and an answer is neither.
  if (phase_ == Phase::has_thought)
    for (const std::int32_t token : constraints_.thinking->newlines) set_bit(bitmask_, token);
  is_prepared_ = true;
}

bool AllowedTokens::apply_grammar(std::span<float> logits) {
  prepare(logits.size());
  bool any = false, any_but_endings = false;
  for (std::size_t word = 0; word < bitmask_.size(); ++word) {
    const std::size_t first = word * 32, last = std::min(first + 32, logits.size());
    if (bitmask_[word] == 0) {
      std::fill(logits.begin() + static_cast<std::ptrdiff_t>(first), logits.begin() + static_cast<std::ptrdiff_t>(last),
                kForbidden);
      continue;
    }
    for (std::size_t i = first; i < last; ++i) {
      if (!has_bit(bitmask_, i)) {
        logits[i] = kForbidden;
        continue;
      }
      any = true;
      any_but_endings = any_but_endings || !is_ending(static_cast<std::int32_t>(i));
    }
  }
  if (num_tokens_ < constraints_.min_tokens && any_but_endings) forbid_endings(logits);
  return any;
}

bool AllowedTokens::apply(std::span<float> logits) {
  const bool closes = phase_ == Phase::closes || (phase_ == Phase::thinks && budget_is_spent());
  if (closes) return allow_only(logits, constraints_.thinking->closing.at(num_closed_));
  for (const auto& [token, bias] : constraints_.logit_bias)
    if (token >= 0 && static_cast<std::size_t>(token) < logits.size()) logits[static_cast<std::size_t>(token)] += bias;
  if (matcher_ && phase_ != Phase::thinks) return apply_grammar(logits);
  // Within a thought the structure has not even begun.
  if (num_tokens_ < constraints_.min_tokens || (matcher_ && phase_ == Phase::thinks)) forbid_endings(logits);
  return true;
}

void AllowedTokens::accept(std::int32_t token) {
  ++num_tokens_;
  is_prepared_ = false;
  const ThinkingTokens* thinking = constraints_.thinking.get();
  switch (phase_) {
    case Phase::begins:
      if (token == thinking->begin) {
        phase_ = Phase::thinks;
        return;
      }
      break;
    case Phase::thinks:
    case Phase::closes:
      if (phase_ == Phase::thinks && budget_is_spent()) phase_ = Phase::closes;
      if (phase_ == Phase::closes) {
        if (++num_closed_ == thinking->closing.size()) phase_ = Phase::answers;
      } else if (token == thinking->end) {
        phase_ = Phase::has_thought;
      } else {
        ++num_thought_;
      }
      return;
    case Phase::has_thought:
      if (contains(thinking->newlines, token)) {
        phase_ = Phase::answers;
        return;
      }
      break;
    case Phase::answers: break;
  }
  phase_ = Phase::answers;
  if (!matcher_ || matcher_->accept(token)) return;
  // Ending tokens that are the request's own end an answer wherever they may come. Anything else is the grammar's mistake.
  if (!is_ending(token))
    fail(ErrorCode::unavailable, "the grammar of the answer let token ", token, " come and then did not know it");
}

std::int64_t AllowedTokens::count_valid(std::span<const std::int32_t> draft) const {
  return matcher_ && phase_ == Phase::answers ? matcher_->count_valid(draft) : std::ssize(draft);
}

}  // namespace cajal
