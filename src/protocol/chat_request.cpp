#include "protocol/chat_request.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace cajal::protocol {
namespace {

constexpr std::array<std::string_view, 6> kRoles = {"system", "developer", "user", "assistant", "tool", "function"};

// OpenAI writes arguments as a string of JSON, and templates go through them as an object.
Json read_arguments(const Json* arguments) {
  if (!arguments) return Json::Object{};
  if (!arguments->is_string()) return *arguments;
  try {
    Json parsed = parse_json(arguments->as_string(), "arguments", {.max_depth = 60});
    if (parsed.is_object()) return parsed;
  } catch (const Error&) {
  }
  return *arguments;  // as the model wrote them: it may have erred, and may see that
}

Json read_tool_calls(const Json::Array& calls, const std::string& path) {
  Json::Array result;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::string call_path = detail::join(path, "[", i, "].");
    Fields call(calls[i], call_path);
    Json read = Json::Object{{"type", "function"}};
    if (const auto id = call.text("id")) read.set("id", *id);
    const Json* function = call.find("function");
    if (!function) refuse(call_path + "function", " is missing");
    Fields f(*function, call_path + "function.");
    const auto name = f.text("name");
    if (!name) refuse(call_path + "function.name", " is missing");
    read.set("function", Json::Object{{"name", *name}, {"arguments", read_arguments(f.find("arguments"))}});
    result.push_back(std::move(read));
  }
  return result;
}

Json read_message(const Json& message, const std::string& path) {
  Fields f(message, path + ".");
  auto role = f.text("role");
  if (!role) refuse(path + ".role", " is missing");
  if (std::find(kRoles.begin(), kRoles.end(), *role) == kRoles.end())
    refuse(path + ".role", " is '", *role, "', expected system, developer, user, assistant or tool");
  if (*role == "developer") role = "system";  // OpenAI's newer word, which no template of Qwen3 has
  if (*role == "function") role = "tool";
  Json read = Json::Object{{"role", *role}};
  const Json* content = message.find("content");
  read.set("content", content ? read_content(*content, path + ".content") : Json());
  if (const Json::Array* calls = f.array("tool_calls"); calls && !calls->empty())
    read.set("tool_calls", read_tool_calls(*calls, path + ".tool_calls"));
  auto reasoning = f.text("reasoning_content");
  if (!reasoning) reasoning = f.text("reasoning");
  if (reasoning) read.set("reasoning_content", *reasoning);
  for (const char* name : {"name", "tool_call_id"})
    if (const auto value = f.text(name)) read.set(name, *value);
  if (const bool calls = read.find("tool_calls"); read.find("content")->is_null()) {
    if (*role != "assistant" || (!calls && !reasoning)) refuse(path + ".content", " is missing");
    read.set("content", "");
  }
  return read;
}

Json::Array read_tools(Fields& f) {
  const Json::Array* tools = f.array("tools");
  if (!tools) return {};
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const std::string path = detail::join("tools[", i, "]");
    Fields tool((*tools)[i], path + ".");
    if (const auto type = tool.text("type"); type && *type != "function")
      refuse(path + ".type", " is '", *type, "', expected function");
    const Json* function = tool.find("function");
    if (!function) refuse(path + ".function", " is missing");
    Fields definition(*function, path + ".function.");
    const auto name = definition.text("name");
    if (!name || name->empty()) refuse(path + ".function.name", " is missing");
    definition.object("parameters");
  }
  return *tools;
}

void read_template_variables(Fields& f, ChatRequest& request) {
  Json& variables = request.variables;
  const bool add_prompt = f.boolean("add_generation_prompt").value_or(true);
  const bool goes_on = f.boolean("continue_final_message").value_or(false);
  if (goes_on)
    throw RequestError({.code = "unsupported_parameter",
                        .param = "continue_final_message",
                        .message = "continue_final_message is not supported: an answer begins a message"});
  variables.set("add_generation_prompt", add_prompt);
  if (const Json::Array* documents = f.array("documents")) variables.set("documents", *documents);
  // A request that brings a program of its own into the server could make it run for long.
  f.refuse_unless("chat_template", "the model's own template is used");
  if (const auto effort = f.text("reasoning_effort"); effort && *effort == "none")
    variables.set("enable_thinking", false);
  const Json::Object* more = f.object("chat_template_kwargs");
  if (!more) return;
  for (const auto& [name, value] : *more) {
    if (name == "messages" || name == "tools" || name == "chat_template")
      refuse("chat_template_kwargs." + name, " cannot be set there");
    variables.set(name, value);
  }
}

std::optional<int> read_logprobs(Fields& f) {
  const bool wanted = f.boolean("logprobs").value_or(false);
  const auto top = f.integer("top_logprobs", {0, kMaxTopLogprobs});
  if (top && *top > 0 && !wanted) refuse("top_logprobs", " is given without logprobs");
  return wanted ? std::optional(static_cast<int>(top.value_or(0))) : std::nullopt;
}

void refuse_what_is_not_there(Fields& f) {
  f.refuse_unless("functions", "use tools");
  f.refuse_unless("function_call", "use tool_choice", {"none", "auto"});
  f.refuse_unless("audio", "the model writes text only");
  f.refuse_unless("modalities", "the model writes text only", {Json(Json::Array{"text"})});
  f.refuse_unless("web_search_options", "this server looks nothing up");
  f.refuse_unless("echo", "an answer does not repeat its messages", {false});
  f.refuse_unless("best_of", "use n", {1});
  f.refuse_unless("store", "nothing is stored", {false});
  f.refuse_unless("prediction", "predictions of the client are not used");
  for (const char* name : {"verbosity", "mm_processor_kwargs"}) f.accept(name);
}

}  // namespace

Json read_content(const Json& content, const std::string& path) {
  if (content.is_null() || content.is_string()) return content;
  if (!content.is_array()) refuse(path, " is ", content.type_name(), ", expected a string or an array of parts");
  std::string text;
  for (std::size_t i = 0; i < content.as_array().size(); ++i) {
    const std::string part_path = detail::join(path, "[", i, "]");
    Fields part(content.as_array()[i], part_path + ".");
    const std::string type = part.text("type").value_or("text");
    if (type != "text" && type != "input_text" && type != "output_text" && type != "refusal")
      throw RequestError(
          {.code = "unsupported_content",
           .param = part_path,
           .message = detail::join(part_path, " is of type '", type, "', and the model reads text only")});
    const auto words = part.text(type == "refusal" ? "refusal" : "text");
    if (!words) refuse(part_path + ".text", " is missing");
    text += *words;
  }
  return text;
}

Json::Array read_messages(const Json::Array& messages) {
  if (messages.empty()) refuse("messages", " is empty");
  Json::Array result;
  for (std::size_t i = 0; i < messages.size(); ++i)
    result.push_back(read_message(messages[i], detail::join("messages[", i, "]")));
  return result;
}

ChatRequest read_chat_request(const Json& body) {
  Fields f(body);
  ChatRequest request;
  request.model = f.text("model");
  const Json::Array* messages = f.array("messages");
  if (!messages) refuse("messages", " is missing");
  request.variables = Json::Object{{"messages", read_messages(*messages)}};
  request.tools = read_tools(f);
  if (const Json* choice = f.find("tool_choice")) request.tool_choice = read_tool_choice(*choice, "tool_choice");
  check_tool_choice(request.tool_choice, request.tools, "tool_choice");
  if (request.tool_choice.kind == ToolChoiceKind::none) request.tools.clear();
  if (!request.tools.empty()) request.variables.set("tools", request.tools);
  request.parallel_tool_calls = f.boolean("parallel_tool_calls").value_or(true);
  request.include_reasoning = f.boolean("include_reasoning").value_or(true);
  read_template_variables(f, request);
  request.sampling = read_sampling(f);
  const auto most = f.integer("max_tokens", {1, std::int64_t{1} << 40});
  const auto newer = f.integer("max_completion_tokens", {1, std::int64_t{1} << 40});
  request.sampling.max_tokens = newer ? newer : most;
  request.answer = read_answer(f);
  request.answer.logprobs = read_logprobs(f);
  refuse_what_is_not_there(f);
  request.ignored = f.unknown();
  return request;
}

}  // namespace cajal::protocol
