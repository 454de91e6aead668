#pragma once
// What a model writes in a chat, taken apart while it comes: thoughts, words, calls of tools.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/chat_request.h"
#include "protocol/tool_calls.h"
#include "text/think_splitter.h"

namespace cajal::protocol {

// How an answer begins, and the tokens that a thought stands between; absent where a vocabulary has none.
struct ThinkingStart {
  bool inside = false;  // in a thought that the prompt has begun
  std::optional<std::int32_t> begin_token = {}, end_token = {};
};

struct ChatPiece {
  std::string reasoning, content;  // in this order
  std::vector<ToolCallDelta> calls;

  // More of a call that an earlier piece has begun: it was written before the content, the other calls after it.
  std::span<const ToolCallDelta> continued() const;
  std::span<const ToolCallDelta> begun() const { return std::span(calls).subspan(continued().size()); }
};

class ChatParts {
 public:
  // The request must outlive this.
  ChatParts(const ChatRequest& request, const ThinkingStart& start);

  // What has become certain with more text; with everything that was held back, if it is the last.
  ChatPiece push(std::string_view text, bool last);

  // How many of the next tokens are thoughts, </think> included. Without a token </think> none is counted.
  std::int64_t count_reasoning(std::span<const std::int32_t> token_ids);

 private:
  enum class Counting : std::uint8_t { undecided, thought, answer };
  void push_answer(std::string_view text, ChatPiece& piece);
  void add(ParsedText parsed, ChatPiece& piece) const;

  const ChatRequest& request_;
  const ThinkingStart start_;
  ThinkSplitter splitter_;
  ToolCallParser parser_;
  Counting counting_;
};

}  // namespace cajal::protocol
