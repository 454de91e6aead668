#pragma once
// From a chat as a request has it to what the engine runs, for every endpoint that chats.
#include <cstdint>
#include <vector>

#include "protocol/chat_parts.h"
#include "protocol/chat_request.h"
#include "server/generation.h"

namespace cajal::server {

struct PreparedChat {
  std::vector<std::int32_t> prompt;
  api::SamplingParams params;
  protocol::ThinkingStart start;  // of every answer
};

// Fills in the model's template. RequestError if the prompt leaves no room for an answer. A request without max_tokens
// has all the room that there is afterwards.
PreparedChat prepare_chat(Service& service, protocol::ChatRequest& request);

}  // namespace cajal::server
