#pragma once
// What answers of all endpoints have in common: usage, log-probabilities, server-sent events.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace cajal::protocol {

struct UsageCount {
  std::int64_t prompt_tokens = 0, completion_tokens = 0;
  std::int64_t cached_tokens = 0, reasoning_tokens = 0;  // of the prompt, of the completion
};
Json to_json(const UsageCount& usage);

// A token as text: some are only a part of a character.
struct TokenText {
  std::int32_t id = 0;
  std::string bytes;
  double logprob = 0;  // -infinity is written as -9999, as vLLM does
};
struct TokenLogprobs {
  TokenText chosen;
  std::vector<TokenText> top;
};

// "token_id:17" instead of texts, where a client wants that.
enum class TokenStyle : std::uint8_t { text, id };

// Of a chat: {"content": [{"token", "logprob", "bytes", "top_logprobs"}, …]}.
Json chat_logprobs_json(std::span<const TokenLogprobs> tokens, TokenStyle style);

// Of a completion: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, grown token by token.
class CompletionLogprobs {
 public:
  CompletionLogprobs(TokenStyle style, std::size_t text_offset) : style_(style), offset_(text_offset) {}
  void add(const TokenLogprobs& token);
  void add_first(const TokenText& token);  // of a prompt: nothing says how likely it is
  Json take();                             // what was added since the last

 private:
  void add_token(const TokenText& token);

  TokenStyle style_;
  std::size_t offset_;  // of the next token, in characters of the text
  Json::Array tokens_, logprobs_, top_, offsets_;
};

std::string event_of(std::string_view data);  // "data: …\n\n"
inline constexpr std::string_view kDoneEvent = "data: [DONE]\n\n", kPing = ": ping\n\n";

}  // namespace cajal::protocol
