#include "protocol/translation.h"

#include <utility>

namespace cajal::protocol {
namespace {

constexpr const char* kCommonFields[] = {
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "priority",
    "stop_token_ids",
    "ignore_eos",
    "min_tokens",
    "logit_bias",
    "bad_words",
    "cache_salt",
    "allowed_token_ids",
    "timeout_ms",
    "documents",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "metadata",
    "chat_template",
    "chat_template_kwargs",
    "service_tier",
    "structured_outputs",
    "truncate_prompt_tokens",
    "user",
    "include_reasoning",
    "thinking_token_budget",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
};

bool begins_with_field(std::string_view param, std::string_view field) {
  return param.starts_with(field) &&
         (param.size() == field.size() || param[field.size()] == '.' || param[field.size()] == '[');
}

}  // namespace

std::string renamed_field(std::string param, std::span<const Rename> renames) {
  for (const Rename& rename : renames) {
    const bool inner = rename.chat.starts_with('.');
    const std::size_t at = inner                                   ? param.find(rename.chat)
                           : begins_with_field(param, rename.chat) ? 0
                                                                   : std::string::npos;
    if (at == std::string::npos) continue;
    param.replace(at, rename.chat.size(), rename.other);
    if (!inner) break;
  }
  return param;
}

ChatRequest read_translated(const Json& chat, std::span<const Rename> renames) {
  try {
    return read_chat_request(chat);
  } catch (const RequestError& e) {
    ErrorBody error = e.body();
    const std::string param = renamed_field(error.param, renames);
    if (!error.param.empty() && error.message.starts_with(error.param))
      error.message.replace(0, error.param.size(), param);
    error.param = param;
    throw RequestError(std::move(error));
  }
}

void copy_common_fields(Fields& from, Json& chat) {
  for (const char* name : kCommonFields)
    if (const Json* value = from.find(name)) chat.set(name, *value);
}

Json& assistant_turn(Json::Array& messages) {
  const Json* role = messages.empty() ? nullptr : messages.back().find("role");
  if (!role || role->as_string() != "assistant")
    messages.emplace_back(Json::Object{{"role", "assistant"}, {"content", ""}});
  return messages.back();
}

void append_text(Json& message, std::string_view name, std::string_view text) {
  const Json* before = message.find(name);
  message.set(name, (before ? before->as_string() : std::string()) + std::string(text));
}

Json tool_call_json(const std::string& id, const std::string& name, Json arguments) {
  return Json::Object{{"id", id},
                      {"type", "function"},
                      {"function", Json::Object{{"name", name}, {"arguments", std::move(arguments)}}}};
}

Json tool_json(const std::string& name, const Json* description, const Json* parameters, const Json* strict) {
  Json function = Json::Object{{"name", name}};
  if (description) function.set("description", *description);
  if (parameters) function.set("parameters", *parameters);
  if (strict) function.set("strict", *strict);
  return Json::Object{{"type", "function"}, {"function", std::move(function)}};
}

}  // namespace cajal::protocol
