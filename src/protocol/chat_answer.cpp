#include "protocol/chat_answer.h"

#include <utility>

#include "base/error.h"

namespace cajal::protocol {
namespace {

void append_member(std::string& out, std::string_view name, std::string_view text) {
  if (!out.ends_with('{')) out += ',';
  out += '"';
  out += name;
  out += "\":";
  append_json_string(out, text);
}

void append_calls(std::string& out, const std::vector<ChatCallDelta>& calls) {
  if (!out.ends_with('{')) out += ',';
  out += "\"tool_calls\":[";
  for (const ChatCallDelta& call : calls) {
    if (!out.ends_with('[')) out += ',';
    out += detail::join("{\"index\":", call.index);
    if (call.begins) {
      append_member(out, "id", call.begins->id);
      out += ",\"type\":\"function\"";
    }
    out += ",\"function\":{";
    if (call.begins) append_member(out, "name", call.begins->name);
    append_member(out, "arguments", call.arguments);
    out += "}}";
  }
  out += ']';
}

}  // namespace

Json to_json(const std::vector<ToolCall>& calls) {
  Json::Array list;
  for (const ToolCall& call : calls)
    list.emplace_back(Json::Object{{"id", call.id},
                                   {"type", "function"},
                                   {"function", Json::Object{{"name", call.name}, {"arguments", call.arguments}}}});
  return list;
}

Json chat_choice_json(const ChatChoice& choice, ReasoningField field) {
  Json message = Json::Object{{"role", "assistant"}};
  message.set("content", choice.content.empty() && !choice.calls.empty() ? Json() : Json(choice.content));
  message.set("refusal", Json());
  const Json reasoning = choice.reasoning.empty() ? Json() : Json(choice.reasoning);
  if (field != ReasoningField::reasoning_content) message.set("reasoning", reasoning);
  if (field != ReasoningField::reasoning) message.set("reasoning_content", reasoning);
  if (!choice.calls.empty()) message.set("tool_calls", to_json(choice.calls));
  Json json = Json::Object{{"index", static_cast<std::int64_t>(choice.index)},
                           {"message", std::move(message)},
                           {"logprobs", choice.logprobs},
                           {"finish_reason", choice.finish_reason}};
  if (choice.token_ids) json.set("token_ids", *choice.token_ids);
  return json;
}

Json chat_answer_json(const AnswerHead& head, Json::Array choices, const UsageCount& usage) {
  return Json::Object{{"id", head.id},
                      {"object", "chat.completion"},
                      {"created", head.created},
                      {"model", head.model},
                      {"choices", std::move(choices)},
                      {"usage", to_json(usage)},
                      {"system_fingerprint", Json()}};
}

ChatChunks::ChatChunks(const AnswerHead& head, bool with_usage, ReasoningField field)
    : with_usage_(with_usage), field_(field) {
  head_ = "data: {";
  append_member(head_, "id", head.id);
  append_member(head_, "object", "chat.completion.chunk");
  head_ += detail::join(",\"created\":", head.created);
  append_member(head_, "model", head.model);
  head_ += ",\"choices\":[";
}

std::string ChatChunks::chunk(const ChatDelta& delta, const UsageCount* usage) const {
  std::string out = head_;
  out += "{\"index\":" + std::to_string(delta.choice) + ",\"delta\":{";
  if (delta.begins) append_member(out, "role", "assistant");
  if (!delta.reasoning.empty() && field_ != ReasoningField::reasoning_content)
    append_member(out, "reasoning", delta.reasoning);
  if (!delta.reasoning.empty() && field_ != ReasoningField::reasoning)
    append_member(out, "reasoning_content", delta.reasoning);
  if (delta.begins || !delta.content.empty()) append_member(out, "content", delta.content);
  if (!delta.calls.empty()) append_calls(out, delta.calls);
  out += "},\"logprobs\":";
  out += delta.logprobs ? cajal::to_json(*delta.logprobs) : "null";
  if (delta.finish_reason.empty())
    out += ",\"finish_reason\":null";
  else
    append_member(out, "finish_reason", delta.finish_reason);
  if (delta.token_ids) out += ",\"token_ids\":" + cajal::to_json(*delta.token_ids);
  out += "}]";
  if (usage)
    out += ",\"usage\":" + cajal::to_json(to_json(*usage));
  else if (with_usage_)
    out += ",\"usage\":null";
  return out += "}\n\n";
}

std::string ChatChunks::usage_chunk(const UsageCount& usage) const {
  return head_ + "],\"usage\":" + cajal::to_json(to_json(usage)) + "}\n\n";
}

}  // namespace cajal::protocol
