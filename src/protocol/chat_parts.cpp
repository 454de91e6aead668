#include "protocol/chat_parts.h"

#include <algorithm>
#include <utility>

namespace cajal::protocol {

std::span<const ToolCallDelta> ChatPiece::continued() const {
  const auto first =
      std::find_if(calls.begin(), calls.end(), [](const ToolCallDelta& call) { return call.name.has_value(); });
  return {calls.begin(), first};
}

ChatParts::ChatParts(const ChatRequest& request, const ThinkingStart& start)
    : request_(request),
      start_(start),
      splitter_(start.inside),
      parser_(request.tools),
      counting_(!start.end_token ? Counting::answer
                : start.inside   ? Counting::thought
                                 : Counting::undecided) {}

void ChatParts::add(ParsedText parsed, ChatPiece& piece) const {
  piece.content += parsed.content;
  for (auto& call : parsed.calls)
    if (request_.parallel_tool_calls || call.index == 0) piece.calls.push_back(std::move(call));
}

void ChatParts::push_answer(std::string_view text, ChatPiece& piece) {
  if (request_.tools.empty())
    piece.content += text;
  else
    add(parser_.push(text), piece);
}

ChatPiece ChatParts::push(std::string_view text, bool last) {
  ChatPiece piece;
  SplitText split = splitter_.push(text);
  piece.reasoning = std::move(split.thinking);
  push_answer(split.answer, piece);
  if (last) {
    split = splitter_.flush();
    piece.reasoning += split.thinking;
    push_answer(split.answer, piece);
    if (!request_.tools.empty()) add(parser_.flush(), piece);
  }
  if (!request_.include_reasoning) piece.reasoning.clear();
  return piece;
}

std::int64_t ChatParts::count_reasoning(std::span<const std::int32_t> token_ids) {
  std::int64_t count = 0;
  for (const std::int32_t id : token_ids) {
    if (counting_ == Counting::undecided)
      counting_ = start_.begin_token && id == *start_.begin_token ? Counting::thought : Counting::answer;
    if (counting_ == Counting::answer) break;
    ++count;
    if (id == *start_.end_token) counting_ = Counting::answer;
  }
  return count;
}

}  // namespace cajal::protocol
