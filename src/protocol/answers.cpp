#include "protocol/answers.h"

#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace cajal::protocol {
namespace {

constexpr double kUnlikely = -9999;

std::string spelled(const TokenText& token, TokenStyle style) {
  if (style == TokenStyle::id) return "token_id:" + std::to_string(token.id);
  return replace_invalid_utf8(token.bytes);
}

Json logprob_of(const TokenText& token) { return std::isfinite(token.logprob) ? token.logprob : kUnlikely; }

Json::Object entry(const TokenText& token, TokenStyle style) {
  Json::Array bytes;
  for (const char c : token.bytes) bytes.emplace_back(static_cast<int>(static_cast<unsigned char>(c)));
  return {{"token", spelled(token, style)}, {"logprob", logprob_of(token)}, {"bytes", std::move(bytes)}};
}

std::size_t num_characters(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;
  return count;
}

}  // namespace

Json to_json(const UsageCount& usage) {
  return Json::Object{{"prompt_tokens", usage.prompt_tokens},
                      {"completion_tokens", usage.completion_tokens},
                      {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
                      {"prompt_tokens_details", Json::Object{{"cached_tokens", usage.cached_tokens}}},
                      {"completion_tokens_details", Json::Object{{"reasoning_tokens", usage.reasoning_tokens}}}};
}

Json chat_logprobs_json(std::span<const TokenLogprobs> tokens, TokenStyle style) {
  Json::Array content;
  for (const TokenLogprobs& token : tokens) {
    Json::Array top;
    for (const TokenText& t : token.top) top.emplace_back(entry(t, style));
    Json one = entry(token.chosen, style);
    one.set("top_logprobs", std::move(top));
    content.push_back(std::move(one));
  }
  return Json::Object{{"content", std::move(content)}};
}

void CompletionLogprobs::add_token(const TokenText& token) {
  tokens_.emplace_back(spelled(token, style_));
  offsets_.emplace_back(static_cast<std::int64_t>(offset_));
  offset_ += num_characters(token.bytes);
}

void CompletionLogprobs::add(const TokenLogprobs& token) {
  add_token(token.chosen);
  logprobs_.push_back(logprob_of(token.chosen));
  Json top = Json::Object{};
  for (const TokenText& t : token.top) top.set(spelled(t, style_), logprob_of(t));
  top_.push_back(std::move(top));
}

void CompletionLogprobs::add_first(const TokenText& token) {
  add_token(token);
  logprobs_.emplace_back();
  top_.emplace_back();
}

Json CompletionLogprobs::take() {
  return Json::Object{{"tokens", std::exchange(tokens_, {})},
                      {"token_logprobs", std::exchange(logprobs_, {})},
                      {"top_logprobs", std::exchange(top_, {})},
                      {"text_offset", std::exchange(offsets_, {})}};
}

std::string event_of(std::string_view data) { return detail::join("data: ", data, "\n\n"); }

}  // namespace cajal::protocol
