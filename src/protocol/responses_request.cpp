#include "protocol/responses_request.h"

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <set>
#include <string>
#include <utility>

#include "protocol/translation.h"

namespace cajal::protocol {
namespace {

constexpr auto kRenames = std::to_array<Rename>({
    {"messages", "input"},
    {"response_format.json_schema", "text.format"},
    {"response_format", "text.format"},
    {"reasoning_effort", "reasoning.effort"},
    {"max_tokens", "max_output_tokens"},
    {".function", ""},
});

[[noreturn]] void unsupported(const std::string& path, const std::string& why) {
  throw RequestError({.code = "unsupported_parameter", .param = path, .message = detail::join(path, " ", why)});
}

std::string text_of(const Json* content, const std::string& path) {
  const Json text = content ? read_content(*content, path) : Json();
  if (!text.is_string()) refuse(path, " is missing");
  return text.as_string();
}

void read_message(Fields& item, const std::string& path, MessageList& messages) {
  const std::string role = item.required_text("role");
  if (role != "user" && role != "assistant" && role != "system" && role != "developer")
    refuse(path + ".role", " is '", role, "', expected user, assistant, system or developer");
  const std::string text = text_of(item.find("content"), path + ".content");
  if (role == "assistant") return messages.say(text);
  messages.add(role, text);
}

std::string texts_of(Fields& item, std::string_view name) {
  std::string all;
  const Json::Array* parts = item.array(name);
  for (std::size_t i = 0; parts && i < parts->size(); ++i) {
    Fields part((*parts)[i], detail::join(item.path(name), "[", i, "]."));
    all += part.text("text").value_or("");
  }
  return all;
}

// A thought begins a turn: what is said and called after it belongs to it.
void read_reasoning(Fields& item, MessageList& messages) {
  std::string thought = texts_of(item, "content");
  const auto hidden = item.text("encrypted_content");
  if (hidden && !hidden->starts_with(kThoughtPrefix))
    refuse(item.path("encrypted_content"), " was written by another server — leave the item out");
  if (thought.empty() && hidden) thought = hidden->substr(kThoughtPrefix.size());
  if (thought.empty()) thought = texts_of(item, "summary");
  messages.think(thought);
}

std::string chat_name(const std::string& name_space, const std::string& name) {
  return name_space + (name_space.empty() || name_space.ends_with("__") ? "" : "__") + name;
}

void read_function_call(Fields& item, MessageList& messages) {
  const std::string id = item.required_text("call_id"), name = item.required_text("name");
  messages.call(id, chat_name(item.text("namespace").value_or(""), name), item.text("arguments").value_or("{}"));
}

void read_item(const Json& json, const std::string& path, MessageList& messages) {
  Fields item(json, path + ".");
  const std::string type = item.text("type").value_or("message");
  if (type == "message") return read_message(item, path, messages);
  if (type == "reasoning") return read_reasoning(item, messages);
  if (type == "function_call") return read_function_call(item, messages);
  if (type == "function_call_output") {
    const std::string id = item.required_text("call_id");
    messages.add_tool_result(id, text_of(item.find("output"), path + ".output"));
    return;
  }
  const bool reference = type == "item_reference";
  throw RequestError(
      {.code = "unsupported_content",
       .param = path,
       .message = detail::join(path, " is of type '", type, "', and ",
                               reference ? "nothing is stored that it could refer to — send the item itself"
                                         : "the server has no tools of its own")});
}

Json::Array read_input(Fields& f) {
  MessageList messages;
  if (const auto instructions = f.text("instructions"); instructions && !instructions->empty())
    messages.add("system", *instructions);
  const Json* input = f.find("input");
  if (!input) refuse("input", " is missing");
  if (input->is_string()) {
    messages.add("user", input->as_string());
    return messages.take();
  }
  if (!input->is_array()) refuse("input", " is ", input->type_name(), ", expected a string or an array of items");
  if (input->as_array().empty()) refuse("input", " is empty");
  for (std::size_t i = 0; i < input->as_array().size(); ++i)
    read_item(input->as_array()[i], detail::join("input[", i, "]"), messages);
  return messages.take();
}

struct Tools {
  Json::Array tools;  // of the chat
  std::vector<NamespacedTool> namespaced;
  std::vector<std::string> ignored;

  void read(const Json& json, const std::string& path, const std::string& name_space);
};

void Tools::read(const Json& json, const std::string& path, const std::string& name_space) {
  Fields tool(json, path + ".");
  const std::string type = tool.required_text("type");
  if (type == "namespace" && name_space.empty()) {
    const std::string inner = tool.required_text("name");
    const Json::Array* list = tool.array("tools");
    for (std::size_t i = 0; list && i < list->size(); ++i)
      read((*list)[i], detail::join(path, ".tools[", i, "]"), inner);
    return;
  }
  if (type == "custom" || type == "namespace")
    unsupported(path, detail::join("is of type '", type, "': a model calls functions — switch it off in the client"));
  // A tool that the server itself would run. The model hears nothing of it, and so never calls it.
  if (type != "function") return ignored.push_back(path);
  const std::string name = tool.required_text("name");
  tool.object("parameters");
  tool.text("description");
  if (!name_space.empty()) namespaced.push_back({chat_name(name_space, name), name_space, name});
  tools.push_back(
      tool_json(chat_name(name_space, name), tool.find("description"), tool.find("parameters"), tool.find("strict")));
}

Tools read_tools(Fields& f) {
  Tools result;
  const Json::Array* tools = f.array("tools");
  for (std::size_t i = 0; tools && i < tools->size(); ++i) result.read((*tools)[i], detail::join("tools[", i, "]"), "");
  return result;
}

const std::string& name_of(const Json& tool) { return tool.find("function")->find("name")->as_string(); }

// Of all tools those that the request allows this time.
Json::Array allowed_tools(Fields& choice, const Json::Array& tools) {
  const Json::Array* allowed = choice.array("tools");
  if (!allowed) refuse("tool_choice.tools", " is missing");
  std::set<std::string, std::less<>> names;
  for (std::size_t i = 0; i < allowed->size(); ++i) {
    Fields tool((*allowed)[i], detail::join("tool_choice.tools[", i, "]."));
    names.insert(tool.required_text("name"));
  }
  Json::Array result;
  std::copy_if(tools.begin(), tools.end(), std::back_inserter(result),
               [&](const Json& tool) { return names.contains(name_of(tool)); });
  return result;
}

void read_tool_choice(Fields& f, Json::Array& tools, Json& chat) {
  const Json* value = f.find("tool_choice");
  if (!value) return;
  if (value->is_string()) {
    chat.set("tool_choice", *value);
    return;
  }
  Fields choice(*value, "tool_choice.");
  const std::string type = choice.required_text("type");
  if (type == "function") {
    const std::string name = choice.required_text("name");
    chat.set("tool_choice", Json::Object{{"type", "function"}, {"function", Json::Object{{"name", name}}}});
  } else if (type == "allowed_tools") {
    tools = allowed_tools(choice, tools);
    chat.set("tool_choice", choice.text("mode").value_or("auto"));
  } else {
    unsupported("tool_choice", detail::join("is of type '", type, "', expected function or allowed_tools"));
  }
}

void read_text(Fields& f, Json& chat) {
  const Json* value = f.find("text");
  if (!value) return;
  Fields text(*value, "text.");
  const Json* format = text.find("format");
  if (!format) return;
  Fields read(*format, "text.format.");
  const std::string type = read.required_text("type");
  if (type != "json_schema") {
    chat.set("response_format", Json::Object{{"type", type}});
    return;
  }
  Json schema = Json::Object{{"name", read.required_text("name")}};
  for (const char* name : {"schema", "strict", "description"})
    if (const Json* member = read.find(name)) schema.set(name, *member);
  chat.set("response_format", Json::Object{{"type", type}, {"json_schema", std::move(schema)}});
}

// Whether thoughts are wanted in a form that is handed on.
bool read_include(Fields& f) {
  bool encrypted = false;
  const Json::Array* include = f.array("include");
  for (std::size_t i = 0; include && i < include->size(); ++i) {
    const std::string path = detail::join("include[", i, "]");
    const Json& name = (*include)[i];
    if (!name.is_string()) refuse(path, " is ", name.type_name(), ", expected a string");
    if (name.as_string() == "message.output_text.logprobs")
      unsupported(path, "is not supported here: /v1/chat/completions reports log-probabilities");
    encrypted |= name.as_string() == "reasoning.encrypted_content";  // the others are of tools that are not there
  }
  return encrypted;
}

void refuse_what_is_not_there(Fields& f) {
  f.refuse_unless("previous_response_id", "nothing is stored, so send the earlier items in input");
  f.refuse_unless("conversation", "nothing is stored, so send the earlier items in input");
  f.refuse_unless("prompt", "no prompts are stored");
  f.refuse_unless("background", "an answer comes while its client waits", {false});
  f.refuse_unless("truncation", "input that is too long is refused", {"disabled"});
  f.refuse_unless("top_logprobs", "use /v1/chat/completions", {0});
  f.refuse_unless("context_management", "input is read as it is");
  f.refuse_unless("moderation", "nothing is moderated");
  f.boolean("store");  // true is what clients say who say nothing
  // `max_tool_calls` is about tools of the server.
  for (const char* name : {"max_tool_calls", "stream_options", "safety_identifier", "prompt_cache_key",
                           "prompt_cache_retention", "prompt_cache_options", "access_programs", "client_metadata"})
    f.accept(name);
}

// Every response has it, and a stream three of them: what is too large comes back empty.
constexpr std::size_t kMostEchoBytes = 128 << 10;

Json echo_of(const Json& body) {
  Json echo = Json::Object{};
  const auto add = [&](const char* name, const Json& otherwise) {
    const Json* value = body.find(name);
    echo.set(name, value && !value->is_null() ? *value : otherwise);
  };
  for (const char* name : {"instructions", "max_output_tokens", "max_tool_calls", "temperature", "top_p", "user",
                           "prompt_cache_key", "safety_identifier"})
    add(name, Json());
  add("metadata", Json::Object{});
  add("parallel_tool_calls", true);
  add("reasoning", Json::Object{{"effort", Json()}, {"summary", Json()}});
  add("text", Json::Object{{"format", Json::Object{{"type", "text"}}}});
  add("tool_choice", "auto");
  add("tools", Json::Array{});
  return to_json(echo).size() > kMostEchoBytes ? echo_of(Json::Object{}) : echo;
}

}  // namespace

std::string responses_field(std::string chat_field) { return renamed_field(std::move(chat_field), kRenames); }

ResponsesRequest read_responses_request(const Json& body) {
  Fields f(body);
  ResponsesRequest request;
  Json chat = Json::Object{{"messages", read_input(f)}};
  if (const auto model = f.text("model")) chat.set("model", *model);
  Tools tools = read_tools(f);
  read_tool_choice(f, tools.tools, chat);
  if (!tools.tools.empty()) chat.set("tools", std::move(tools.tools));
  request.namespaced = std::move(tools.namespaced);
  if (const auto parallel = f.boolean("parallel_tool_calls")) chat.set("parallel_tool_calls", *parallel);
  if (const auto most = f.integer("max_output_tokens", {1, std::int64_t{1} << 40})) chat.set("max_tokens", *most);
  if (const Json* value = f.find("reasoning")) {
    Fields reasoning(*value, "reasoning.");
    if (const auto effort = reasoning.text("effort")) chat.set("reasoning_effort", *effort);
  }
  read_text(f, chat);
  request.encrypted_content = read_include(f);
  copy_common_fields(f, chat);
  refuse_what_is_not_there(f);
  request.chat = read_translated(chat, kRenames);
  request.chat.ignored = f.unknown();
  request.chat.ignored.insert(request.chat.ignored.end(), tools.ignored.begin(), tools.ignored.end());
  request.echo = echo_of(body);
  return request;
}

}  // namespace cajal::protocol
