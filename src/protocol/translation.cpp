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

void MessageList::end_message() {
  if (open_.empty()) return;
  Json message = Json::Object{{"role", std::exchange(open_, {})}, {"content", std::exchange(content_, {})}};
  if (!calls_.empty()) message.set("tool_calls", std::exchange(calls_, {}));
  if (std::exchange(thinks_, false)) message.set("reasoning_content", std::exchange(reasoning_, {}));
  messages_.push_back(std::move(message));
}

void MessageList::open(std::string_view role) {
  if (open_ == role) return;
  end_message();
  open_ = role;
}

void MessageList::add(const std::string& role, std::string content) {
  end_message();
  messages_.emplace_back(Json::Object{{"role", role}, {"content", std::move(content)}});
}

void MessageList::add_tool_result(const std::string& call_id, std::string content) {
  end_message();
  messages_.emplace_back(Json::Object{{"role", "tool"}, {"tool_call_id", call_id}, {"content", std::move(content)}});
}

void MessageList::add_user_text(std::string_view text) {
  open("user");
  content_ += text;
}

void MessageList::begin_turn() {
  end_message();
  open("assistant");
}

void MessageList::say(std::string_view text) {
  open("assistant");
  content_ += text;
}

void MessageList::think(std::string_view text) {
  if (!content_.empty() || !calls_.empty()) end_message();
  open("assistant");
  thinks_ = true;
  reasoning_ += text;
}

void MessageList::call(const std::string& id, const std::string& name, Json arguments) {
  open("assistant");
  calls_.emplace_back(Json::Object{{"id", id},
                                   {"type", "function"},
                                   {"function", Json::Object{{"name", name}, {"arguments", std::move(arguments)}}}});
}

Json::Array MessageList::take() {
  end_message();
  return std::move(messages_);
}

Json tool_json(const std::string& name, const Json* description, const Json* parameters, const Json* strict) {
  Json function = Json::Object{{"name", name}};
  if (description) function.set("description", *description);
  if (parameters) function.set("parameters", *parameters);
  if (strict) function.set("strict", *strict);
  return Json::Object{{"type", "function"}, {"function", std::move(function)}};
}

}  // namespace cajal::protocol
