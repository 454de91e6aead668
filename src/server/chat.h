#pragma once
// From a chat as a request has it to what the engine runs, for every endpoint that chats.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/chat_parts.h"
#include "protocol/chat_request.h"
#include "server/generation.h"

namespace cajal::server {

struct PreparedChat {
  std::vector<std::int32_t> prompt;
  api::SamplingParams params;
  std::string structure_param;    // the field that says what an answer has to be, if one does
  protocol::ThinkingStart start;  // of every answer
};

// Fills in the model's template. RequestError if the prompt leaves no room for an answer. A request without max_tokens
// has all the room that there is afterwards. `field` of the request has its messages.
PreparedChat prepare_chat(Service& service, protocol::ChatRequest& request, std::string_view field = "messages");
std::int64_t count_prompt_tokens(Service& service, const protocol::ChatRequest& request);

}  // namespace cajal::server
