#pragma once
// POST /v1/messages and /v1/messages/count_tokens, Anthropic's form of a chat: what a body asks for, as the chat it means.
#include <cstdint>
#include <string>

#include "base/json.h"
#include "protocol/chat_request.h"

namespace cajal::protocol {

enum class MessagesUse : std::uint8_t { answer, count_tokens };

struct MessagesRequest {
  ChatRequest chat;
  bool omits_thinking = false;  // thoughts are to come back in a form that clients hand on unread
};

MessagesRequest read_messages_request(const Json& body, MessagesUse use = MessagesUse::answer);
// What such a request calls a field of the chat that it means.
std::string messages_field(std::string chat_field);

}  // namespace cajal::protocol
