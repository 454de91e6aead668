#include "protocol/messages_request.h"

#include <array>
#include <string>
#include <utility>

#include "protocol/translation.h"

namespace cajal::protocol {
namespace {

constexpr auto kRenames = std::to_array<Rename>({
    {"stop", "stop_sequences"},
    {"response_format.json_schema.schema", "output_config.format.schema"},
    {"response_format", "output_config.format"},
    {"thinking_token_budget", "thinking.budget_tokens"},
    {"reasoning_effort", "output_config.effort"},
    {".function.parameters", ".input_schema"},
    {".function", ""},
});

[[noreturn]] void refuse_type(const std::string& path, const std::string& type, std::string_view why) {
  throw RequestError({.code = "unsupported_content",
                      .param = path,
                      .message = detail::join(path, " is of type '", type, "', and ", why)});
}

std::string text_of(const Json* content, const std::string& path) {
  const Json text = content ? read_content(*content, path) : Json();
  return text.is_string() ? text.as_string() : std::string();
}

// Reads content block by block; a string is one block of text.
template <class Take>
void for_each_block(const Json* content, const std::string& path, Take&& take) {
  if (!content || content->is_null()) refuse(path, " is missing");
  if (content->is_string()) {
    const Json block = Json::Object{{"type", "text"}, {"text", *content}};
    return take(block, path, std::string("text"));
  }
  if (!content->is_array()) refuse(path, " is ", content->type_name(), ", expected a string or an array of blocks");
  for (std::size_t i = 0; i < content->as_array().size(); ++i) {
    const Json& block = content->as_array()[i];
    const std::string block_path = detail::join(path, "[", i, "]");
    Fields f(block, block_path + ".");
    take(block, block_path, f.required_text("type"));
  }
}

std::string text_of_block(const Json& block, const std::string& path) {
  Fields f(block, path + ".");
  auto text = f.text("text");
  if (!text) refuse(path + ".text", " is missing");
  return std::move(*text);
}

// Results of tools become messages of their own, in the order that they stand in.
void read_user(const Json* content, const std::string& path, MessageList& messages) {
  if (content && content->is_array() && content->as_array().empty()) refuse(path, " is empty");
  messages.end_message();
  for_each_block(content, path, [&](const Json& block, const std::string& at, const std::string& type) {
    if (type == "text") return messages.add_user_text(text_of_block(block, at));
    if (type != "tool_result") refuse_type(at, type, "the model reads text and results of tools only");
    Fields f(block, at + ".");
    const std::string id = f.required_text("tool_use_id");
    f.boolean("is_error");  // its text says what went wrong
    messages.add_tool_result(id, text_of(f.find("content"), at + ".content"));
  });
}

void read_assistant(const Json* content, const std::string& path, MessageList& messages) {
  messages.begin_turn();
  for_each_block(content, path, [&](const Json& block, const std::string& at, const std::string& type) {
    if (type == "text") return messages.say(text_of_block(block, at));
    Fields f(block, at + ".");
    if (type == "thinking") {
      // Nobody checks a signature, but it may have the thought itself.
      const std::string thought = f.text("thinking").value_or(""), signature = f.text("signature").value_or("");
      const bool hidden = thought.empty() && signature.starts_with(kThoughtPrefix);
      return messages.think(hidden ? std::string_view(signature).substr(kThoughtPrefix.size()) : thought);
    }
    if (type != "tool_use") refuse_type(at, type, "the model has written text, thoughts and calls of tools only");
    const std::string id = f.required_text("id"), name = f.required_text("name");
    const Json::Object* input = f.object("input");
    if (!input) refuse(at + ".input", " is missing");
    messages.call(id, name, *input);
  });
}

MessageList read_turns(Fields& f) {
  MessageList result;
  if (const std::string system = text_of(f.find("system"), "system"); !system.empty()) result.add("system", system);
  const Json::Array* messages = f.array("messages");
  if (!messages) refuse("messages", " is missing");
  if (messages->empty()) refuse("messages", " is empty");
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const std::string path = detail::join("messages[", i, "]");
    Fields message((*messages)[i], path + ".");
    const std::string role = message.required_text("role");
    const Json* content = message.find("content");
    if (role == "user")
      read_user(content, path + ".content", result);
    else if (role == "assistant")
      read_assistant(content, path + ".content", result);
    else if (role == "system" && content)
      result.add("system", text_of(content, path + ".content"));
    else
      refuse(path + ".role", " is '", role, "', expected user or assistant");
  }
  return result;
}

Json::Array read_tools(Fields& f) {
  Json::Array result;
  const Json::Array* tools = f.array("tools");
  for (std::size_t i = 0; tools && i < tools->size(); ++i) {
    const std::string path = detail::join("tools[", i, "]");
    Fields tool((*tools)[i], path + ".");
    const std::string type = tool.text("type").value_or("custom");
    if (type != "custom")
      refuse_type(path, type, "the server has no tools of its own — leave it out, or describe it with input_schema");
    const std::string name = tool.required_text("name");
    if (!tool.object("input_schema")) refuse(path + ".input_schema", " is missing");
    tool.text("description");
    result.push_back(tool_json(name, tool.find("description"), tool.find("input_schema"), tool.find("strict")));
  }
  return result;
}

void read_tool_choice(Fields& f, Json& chat) {
  const Json* value = f.find("tool_choice");
  if (!value) return;
  Fields choice(*value, "tool_choice.");
  const std::string type = choice.required_text("type");
  if (type == "auto" || type == "none")
    chat.set("tool_choice", type);
  else if (type == "any")
    chat.set("tool_choice", "required");
  else if (type == "tool")
    chat.set("tool_choice",
             Json::Object{{"type", "function"}, {"function", Json::Object{{"name", choice.required_text("name")}}}});
  else
    refuse("tool_choice.type", " is '", type, "', expected auto, any, tool or none");
  if (choice.boolean("disable_parallel_tool_use").value_or(false)) chat.set("parallel_tool_calls", false);
}

// Without a word about it, an answer has no thoughts. Gives whether their text is left out.
bool read_thinking(Fields& f, Json& chat) {
  bool thinks = false, omits = false;
  if (const Json* value = f.find("thinking")) {
    Fields thinking(*value, "thinking.");
    const std::string type = thinking.required_text("type");
    if (type != "enabled" && type != "adaptive" && type != "disabled")
      refuse("thinking.type", " is '", type, "', expected enabled, adaptive or disabled");
    thinks = type != "disabled";
    const auto budget = thinking.integer("budget_tokens", {1, std::int64_t{1} << 40});
    if (budget && type == "enabled") chat.set("thinking_token_budget", *budget);
    omits = thinking.text("display") == "omitted";
  }
  Json kwargs = Json::Object{{"enable_thinking", thinks}};
  if (const Json* given = chat.find("chat_template_kwargs"); given && given->is_object())
    for (const auto& [name, v] : given->as_object()) kwargs.set(name, v);
  chat.set("chat_template_kwargs", std::move(kwargs));
  return omits;
}

void read_output_config(Fields& f, Json& chat) {
  const Json* value = f.find("output_config");
  if (!value) return;
  Fields config(*value, "output_config.");
  if (const auto effort = config.text("effort")) chat.set("reasoning_effort", *effort);
  const Json* format = config.find("format");
  if (!format) return;
  Fields read(*format, "output_config.format.");
  if (const std::string type = read.required_text("type"); type != "json_schema")
    refuse("output_config.format.type", " is '", type, "', expected json_schema");
  const Json::Object* schema = read.object("schema");
  if (!schema) refuse("output_config.format.schema", " is missing");
  chat.set("response_format",
           Json::Object{{"type", "json_schema"},
                        {"json_schema", Json::Object{{"name", "output"}, {"schema", *schema}, {"strict", true}}}});
}

// A server that edits a context leaves out what a chat template leaves out by itself: thoughts of earlier turns.
void read_context_management(Fields& f) {
  const Json* value = f.find("context_management");
  if (!value) return;
  Fields management(*value, "context_management.");
  const Json::Array* edits = management.array("edits");
  for (std::size_t i = 0; edits && i < edits->size(); ++i) {
    const std::string path = detail::join("context_management.edits[", i, "]");
    Fields edit((*edits)[i], path + ".");
    if (const std::string type = edit.required_text("type"); !type.starts_with("clear_thinking"))
      refuse_type(path, type, "messages are read as they are — leave it out");
  }
}

void refuse_what_is_not_there(Fields& f) {
  f.refuse_unless("mcp_servers", "the server calls no tools itself", {Json(Json::Array{})});
  f.refuse_unless("container", "the server runs nothing");
  for (const char* name : {"cache_control", "inference_geo", "speed", "user_profile_id", "workspace_id", "diagnostics",
                           "anthropic_version", "anthropic_beta"})
    f.accept(name);
}

}  // namespace

std::string messages_field(std::string chat_field) { return renamed_field(std::move(chat_field), kRenames); }

MessagesRequest read_messages_request(const Json& body, MessagesUse use) {
  Fields f(body);
  MessagesRequest request;
  Json chat = Json::Object{};
  if (const auto model = f.text("model")) chat.set("model", *model);
  MessageList messages = read_turns(f);
  const bool answers = use == MessagesUse::answer;
  if (answers && messages.ends_with_assistant())
    throw RequestError({.code = "unsupported_content",
                        .param = "messages",
                        .message =
                            "messages end with the assistant's: an answer begins a message of its own — end with "
                            "the user's"});
  chat.set("messages", messages.take());
  if (Json::Array tools = read_tools(f); !tools.empty()) chat.set("tools", std::move(tools));
  read_tool_choice(f, chat);
  const auto max_tokens = f.integer("max_tokens", {1, std::int64_t{1} << 40});
  if (answers && !max_tokens) refuse("max_tokens", " is missing");
  if (max_tokens) chat.set("max_tokens", *max_tokens);
  if (const Json* stop = f.find("stop_sequences")) chat.set("stop", *stop);
  copy_common_fields(f, chat);
  request.omits_thinking = read_thinking(f, chat);
  read_output_config(f, chat);
  read_context_management(f);
  refuse_what_is_not_there(f);
  request.chat = read_translated(chat, kRenames);
  request.chat.ignored = f.unknown();
  return request;
}

}  // namespace cajal::protocol
