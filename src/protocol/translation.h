#pragma once
// How requests of other APIs are read: as the chat request that they mean, so that whatever holds for chats holds for them.
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "protocol/chat_request.h"
#include "protocol/fields.h"

namespace cajal::protocol {

// What a chat request calls something, and what the other request calls it: a field at the top ("stop"), or with a dot in
// front the end of a path (".function.name").
struct Rename {
  std::string_view chat, other;
};

// In front of a thought that clients hand on without reading it: in `encrypted_content`, or in a signature.
inline constexpr std::string_view kThoughtPrefix = "cajal:";

std::string renamed_field(std::string chat_field, std::span<const Rename> renames);

// Reads `chat`, a body of /v1/chat/completions. Errors name the fields of the other request.
ChatRequest read_translated(const Json& chat, std::span<const Rename> renames);

// Copies the fields that every API has under the same name: how tokens are drawn, who asks, and what OpenAI's servers do not
// know, such as top_k, cache_salt and timeout_ms.
void copy_common_fields(Fields& from, Json& chat);

// The one message that an assistant's texts, thoughts and calls are part of: the last of `messages`, or a new one after it.
Json& assistant_turn(Json::Array& messages);
// Adds to a text of a message, after what it has.
void append_text(Json& message, std::string_view name, std::string_view text);
Json tool_call_json(const std::string& id, const std::string& name, Json arguments);
Json tool_json(const std::string& name, const Json* description, const Json* parameters, const Json* strict);

}  // namespace cajal::protocol
