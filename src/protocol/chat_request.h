#pragma once
// POST /v1/chat/completions: what a body asks for.
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "protocol/sampling_fields.h"

namespace cajal::protocol {

struct ChatRequest {
  std::optional<std::string> model;
  // What the chat template is to see: messages, tools, add_generation_prompt, enable_thinking and so on.
  Json variables;
  Json::Array tools;  // empty also if the model is not to call any
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  bool include_reasoning = true;
  SamplingFields sampling;
  AnswerFields answer;
  std::vector<std::string> ignored;  // fields that nobody knows
};

ChatRequest read_chat_request(const Json& body);

// The text of a message's content: null, a string, or parts of which all are texts. Other parts are refused by their type.
Json read_content(const Json& content, const std::string& path);

// Messages as templates expect them: contents are strings, arguments of calls objects, reasoning is reasoning_content.
Json::Array read_messages(const Json::Array& messages);

}  // namespace cajal::protocol
