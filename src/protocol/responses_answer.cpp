#include "protocol/responses_answer.h"

#include <ctime>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "protocol/messages_answer.h"
#include "protocol/translation.h"

namespace cajal::protocol {
namespace {

Json usage_json(const UsageCount& usage) {
  return Json::Object{
      {"input_tokens", usage.prompt_tokens},
      {"input_tokens_details", Json::Object{{"cached_tokens", usage.cached_tokens}, {"cache_write_tokens", 0}}},
      {"output_tokens", usage.completion_tokens},
      {"output_tokens_details", Json::Object{{"reasoning_tokens", usage.reasoning_tokens}}},
      {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

Json::Array one(Json value) {
  Json::Array list;
  list.push_back(std::move(value));
  return list;
}

}  // namespace

ResponsesAnswer::ResponsesAnswer(ResponsesHead head, MakeId make_id)
    : head_(std::move(head)), make_id_(std::move(make_id)), id_(make_id_("resp_")) {}

Json ResponsesAnswer::part_json(const Item& item) {
  if (item.kind == Kind::reasoning) return Json::Object{{"type", "reasoning_text"}, {"text", item.text}};
  return Json::Object{
      {"type", "output_text"}, {"text", item.text}, {"annotations", Json::Array{}}, {"logprobs", Json::Array{}}};
}

// An item that has just begun has no part yet.
Json ResponsesAnswer::item_json(const Item& item) const {
  Json json = Json::Object{{"id", item.id}};
  Json::Array parts = item.text.empty() ? Json::Array{} : one(part_json(item));
  switch (item.kind) {
    case Kind::reasoning:
      json.set("type", "reasoning");
      json.set("summary", Json::Array{});
      json.set("content", std::move(parts));
      if (head_.encrypted_content) json.set("encrypted_content", std::string(kThoughtPrefix) + item.text);
      break;
    case Kind::message:
      json.set("type", "message");
      json.set("role", "assistant");
      json.set("content", std::move(parts));
      break;
    case Kind::function_call:
      json.set("type", "function_call");
      json.set("call_id", item.call_id);
      json.set("name", item.name);
      if (!item.name_space.empty()) json.set("namespace", item.name_space);
      json.set("arguments", item.text);
  }
  json.set("status", item.status);
  return json;
}

Json ResponsesAnswer::whole() const {
  const bool complete = status_ == "completed", incomplete = status_ == "incomplete";
  Json::Array output;
  for (const Item& item : items_) output.push_back(item_json(item));
  Json json =
      Json::Object{{"id", id_},
                   {"object", "response"},
                   {"created_at", head_.created},
                   {"completed_at", complete ? Json(static_cast<std::int64_t>(std::time(nullptr))) : Json()},
                   {"status", status_},
                   {"error", error_},
                   {"incomplete_details", incomplete ? Json(Json::Object{{"reason", "max_output_tokens"}}) : Json()},
                   {"model", head_.model},
                   {"output", std::move(output)},
                   {"usage", usage_},
                   {"background", false},
                   {"previous_response_id", Json()},
                   {"service_tier", "default"},
                   {"store", false},
                   {"top_logprobs", 0},
                   {"truncation", "disabled"}};
  for (const auto& [name, value] : head_.echo.as_object()) json.set(name, value);
  return json;
}

std::string ResponsesAnswer::event(std::string_view type, Json::Object members) {
  Json json = Json::Object{{"type", type}, {"sequence_number", next_number_++}};
  for (auto& [name, value] : members) json.set(name, std::move(value));
  return event_of(type, to_json(json));
}

std::string ResponsesAnswer::item_event(std::string_view type, Json::Object members) {
  members.emplace_back("output_index", static_cast<std::int64_t>(items_.size() - 1));
  return event(type, std::move(members));
}

std::string ResponsesAnswer::response_event(std::string_view type) { return event(type, {{"response", whole()}}); }

std::string ResponsesAnswer::begin() {
  std::string events = response_event("response.created");
  return events += response_event("response.in_progress");
}

void ResponsesAnswer::open(Item item, std::string& events) {
  close("completed", events);
  items_.push_back(std::move(item));
  open_ = true;
  const Item& opened = items_.back();
  events += item_event("response.output_item.added", {{"item", item_json(opened)}});
  if (opened.kind == Kind::function_call) return;
  events += item_event("response.content_part.added",
                       {{"item_id", opened.id}, {"content_index", 0}, {"part", part_json(opened)}});
}

void ResponsesAnswer::close(const char* status, std::string& events) {
  if (!std::exchange(open_, false)) return;
  Item& item = items_.back();
  item.status = status;
  Json::Object at = {{"item_id", item.id}};
  if (item.kind == Kind::function_call) {
    at.emplace_back("name", item.name);
    at.emplace_back("arguments", item.text);
    events += item_event("response.function_call_arguments.done", std::move(at));
  } else {
    at.emplace_back("content_index", 0);
    Json::Object text = at, part = at;
    text.emplace_back("text", item.text);
    part.emplace_back("part", part_json(item));
    if (item.kind == Kind::message) text.emplace_back("logprobs", Json::Array{});
    const bool is_message = item.kind == Kind::message;
    events += item_event(is_message ? "response.output_text.done" : "response.reasoning_text.done", std::move(text));
    events += item_event("response.content_part.done", std::move(part));
  }
  events += item_event("response.output_item.done", {{"item", item_json(item)}});
}

// Many, and so written without a Json of each.
void ResponsesAnswer::delta(std::string_view text, std::string& events) {
  const Item& item = items_.back();
  const char* type = item.kind == Kind::reasoning ? "response.reasoning_text.delta"
                     : item.kind == Kind::message ? "response.output_text.delta"
                                                  : "response.function_call_arguments.delta";
  events += detail::join("event: ", type, "\ndata: {\"type\":\"", type, "\",\"sequence_number\":", next_number_++,
                         ",\"item_id\":\"", item.id, "\",\"output_index\":", items_.size() - 1);
  if (item.kind != Kind::function_call) events += ",\"content_index\":0";
  if (item.kind == Kind::message) events += ",\"logprobs\":[]";
  events += ",\"delta\":";
  append_json_string(events, text);
  events += "}\n\n";
}

void ResponsesAnswer::add_text(Kind kind, std::string_view text, std::string& events) {
  if (text.empty()) return;
  if (!open_ || items_.back().kind != kind) {
    const char* prefix = kind == Kind::message ? "msg_" : "rs_";
    open({.kind = kind, .id = make_id_(prefix), .text = {}, .call_id = {}, .name_space = {}, .name = {}}, events);
  }
  items_.back().text += text;
  delta(text, events);
}

void ResponsesAnswer::add_call(const ToolCallDelta& call, std::string& events) {
  if (call.name) {
    Item item{.kind = Kind::function_call,
              .id = make_id_("fc_"),
              .text = {},
              .call_id = make_id_("call_"),
              .name_space = {},
              .name = *call.name,
              .call = call.index};
    for (const NamespacedTool& tool : head_.namespaced)
      if (tool.chat_name == *call.name) item.name_space = tool.name_space, item.name = tool.name;
    open(std::move(item), events);
  }
  if (!open_ || items_.back().kind != Kind::function_call || items_.back().call != call.index)
    throw std::logic_error("a call goes on after its end");
  if (call.arguments.empty()) return;
  items_.back().text += call.arguments;
  delta(call.arguments, events);
}

std::string ResponsesAnswer::add(const ChatPiece& piece) {
  std::string events;
  add_text(Kind::reasoning, piece.reasoning, events);
  for (const ToolCallDelta& call : piece.continued()) add_call(call, events);
  add_text(Kind::message, piece.content, events);
  for (const ToolCallDelta& call : piece.begun()) add_call(call, events);
  return events;
}

std::string ResponsesAnswer::end(bool complete, const UsageCount& usage) {
  status_ = complete ? "completed" : "incomplete";
  usage_ = usage_json(usage);
  std::string events;
  close(complete ? "completed" : "incomplete", events);
  return events + response_event("response." + status_);
}

std::string ResponsesAnswer::fail(const ErrorBody& error) {
  status_ = "failed";
  error_ =
      Json::Object{{"code", error.status == 429 ? "rate_limit_exceeded" : "server_error"}, {"message", error.message}};
  std::string events;
  close("incomplete", events);
  return events + response_event("response.failed");
}

}  // namespace cajal::protocol
