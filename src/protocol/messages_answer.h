#pragma once
// Answers of /v1/messages, in one piece and as events, and errors as Anthropic writes them.
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "protocol/answers.h"
#include "protocol/chat_parts.h"
#include "protocol/request_error.h"

namespace cajal::protocol {

// {"type": "error", "error": {"type", "message"}, "request_id"}.
Json anthropic_error_json(const ErrorBody& error, std::string_view request_id);
std::string event_of(std::string_view type, std::string_view data);  // "event: …\ndata: …\n\n"
inline constexpr std::string_view kAnthropicPing = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

// Makes an id that nobody else has, from its beginning: "toolu_".
using MakeId = std::function<std::string(std::string_view prefix)>;

// One answer while it comes. Every call returns the events that it brings; the whole can be had at the end.
class MessagesAnswer {
 public:
  // `omits_thinking`: thoughts have no text, and hand it on in their signature.
  MessagesAnswer(std::string model, MakeId make_id, bool omits_thinking = false);

  std::string begin(const UsageCount& usage);
  std::string add(const ChatPiece& piece);
  // `reason`: "end_turn", "max_tokens", …; a turn that ends by itself after calls ends as "tool_use".
  // `stop_sequence`: that has ended it, or "".
  std::string end(std::string_view reason, std::string_view stop_sequence, const UsageCount& usage);
  Json whole() const;  // after end()

 private:
  enum class Kind : std::uint8_t { thinking, text, tool_use };
  struct Block {
    Kind kind;
    std::string text;      // or the JSON of a tool's input
    std::string id, name;  // of a call
    std::size_t call = 0;  // its index among the calls
  };
  void open(Block block, std::string& events);
  void close(std::string& events);
  void add_text(Kind kind, std::string_view text, std::string& events);
  void add_call(const ToolCallDelta& call, std::string& events);
  void delta(std::string_view type, std::string_view member, std::string_view text, std::string& events);
  std::string signature_of(const Block& block) const;
  Json message_json(Json::Array content, const UsageCount& usage) const;

  const std::string id_, model_;
  const MakeId make_id_;
  const bool omits_thinking_;
  std::vector<Block> blocks_;
  bool open_ = false;  // the last block
  std::string reason_, stop_sequence_;
  UsageCount usage_;
};

}  // namespace cajal::protocol
