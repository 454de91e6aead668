#pragma once
// POST /v1/responses, OpenAI's newer form of a chat: what a body asks for, as the chat that it means. Nothing is stored.
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "protocol/chat_request.h"

namespace cajal::protocol {

// A function that a client has in a namespace. A chat has no such thing: there the name says both.
struct NamespacedTool {
  std::string chat_name, name_space, name;
};

struct ResponsesRequest {
  ChatRequest chat;
  std::vector<NamespacedTool> namespaced;
  Json echo;                       // what an answer repeats of its request, by field
  bool encrypted_content = false;  // thoughts are to come back in a form that clients hand on unread
};

ResponsesRequest read_responses_request(const Json& body);
// What such a request calls a field of the chat that it means.
std::string responses_field(std::string chat_field);

}  // namespace cajal::protocol
