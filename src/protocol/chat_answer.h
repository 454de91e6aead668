#pragma once
// Answers of /v1/chat/completions, in one piece and in chunks.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "protocol/answers.h"

namespace cajal::protocol {

// vLLM has renamed what holds the thinking; clients of either age find it.
enum class ReasoningField : std::uint8_t { both, reasoning, reasoning_content };

struct ToolCall {
  std::string id, name, arguments;
};
Json to_json(const std::vector<ToolCall>& calls);

// What stands at the head of an answer and of each of its chunks.
struct AnswerHead {
  std::string id;  // "chatcmpl-…"
  std::int64_t created = 0;
  std::string model;
};

struct ChatChoice {
  std::size_t index = 0;
  std::string content, reasoning;
  std::vector<ToolCall> calls;
  std::string finish_reason;
  Json logprobs;                  // null: not asked for
  std::optional<Json> token_ids;  // absent: not asked for
};
Json chat_choice_json(const ChatChoice& choice, ReasoningField field);
Json chat_answer_json(const AnswerHead& head, Json::Array choices, const UsageCount& usage);

// The beginning of a call, or more of its arguments.
struct ChatCallDelta {
  std::size_t index = 0;
  const ToolCall* begins = nullptr;  // with its id and name
  std::string_view arguments;
};

struct ChatDelta {
  std::size_t choice = 0;
  bool begins = false;  // says the role
  std::string_view content, reasoning;
  std::vector<ChatCallDelta> calls;
  std::string_view finish_reason;  // empty: not over
  const Json* logprobs = nullptr;
  const Json* token_ids = nullptr;
};

// Writes chunks as events. Chunks are many, and so written without a Json of each.
class ChatChunks {
 public:
  // `with_usage`: every chunk has a member usage, null unless it is given.
  ChatChunks(const AnswerHead& head, bool with_usage, ReasoningField field);
  std::string chunk(const ChatDelta& delta, const UsageCount* usage = nullptr) const;
  std::string usage_chunk(const UsageCount& usage) const;  // the last one, without a choice

 private:
  std::string head_;
  bool with_usage_;
  ReasoningField field_;
};

}  // namespace cajal::protocol
