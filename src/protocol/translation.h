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

// Messages of a chat, put together from what other APIs have: what a role says piece by piece is one message, and so is all
// that an assistant thinks, says and calls in a turn.
class MessageList {
 public:
  void add(const std::string& role, std::string content);  // a message of its own
  void add_tool_result(const std::string& call_id, std::string content);
  void add_user_text(std::string_view text);
  void say(std::string_view text);
  void think(std::string_view text);  // begins a turn if the assistant has said or called something before
  void call(const std::string& id, const std::string& name, Json arguments);
  void begin_turn();  // of the assistant, even if it stays empty
  void end_message();

  bool ends_with_assistant() const { return open_ == "assistant"; }
  Json::Array take();

 private:
  void open(std::string_view role);

  Json::Array messages_;
  std::string open_, content_, reasoning_;  // the role of the message that goes on, or "", and what it has
  bool thinks_ = false;
  Json::Array calls_;
};

Json tool_json(const std::string& name, const Json* description, const Json* parameters, const Json* strict);

}  // namespace cajal::protocol
