#include "protocol/messages_answer.h"

#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "protocol/translation.h"

namespace cajal::protocol {
namespace {

// Clients hand thoughts back with their signature, and some drop those without one. Nobody checks it here.
constexpr std::string_view kSignature = "cajal";

std::string_view error_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503: return "overloaded_error";
    case 504: return "timeout_error";
    default: return status < 500 ? "invalid_request_error" : "api_error";
  }
}

Json usage_json(const UsageCount& usage) {
  // Those that were found in the cache are not among the others.
  return Json::Object{{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
                      {"cache_creation_input_tokens", 0},
                      {"cache_read_input_tokens", usage.cached_tokens},
                      {"output_tokens", usage.completion_tokens},
                      {"output_tokens_details", Json::Object{{"thinking_tokens", usage.reasoning_tokens}}}};
}

// What a model has written as arguments, which need not be JSON if it was cut off.
Json input_json(const std::string& text) {
  try {
    Json input = parse_json(text, "arguments", {.max_depth = JsonScanner::kMaxDepth});
    if (input.is_object()) return input;
  } catch (const Error&) {
  }
  return Json::Object{{"INVALID_JSON", text}};
}

Json or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

Json anthropic_error_json(const ErrorBody& error, std::string_view request_id) {
  // By these words clients know that a conversation is to be shortened.
  const bool too_long = error.code == "context_length_exceeded";
  const std::string message = (too_long ? "prompt is too long: " : "") + error.message;
  return Json::Object{{"type", "error"},
                      {"error", Json::Object{{"type", error_type(error.status)}, {"message", message}}},
                      {"request_id", request_id}};
}

std::string event_of(std::string_view type, std::string_view data) {
  return detail::join("event: ", type, "\ndata: ", data, "\n\n");
}

MessagesAnswer::MessagesAnswer(std::string model, MakeId make_id, bool omits_thinking)
    : id_(make_id("msg_")), model_(std::move(model)), make_id_(std::move(make_id)), omits_thinking_(omits_thinking) {}

std::string MessagesAnswer::signature_of(const Block& block) const {
  return omits_thinking_ ? std::string(kThoughtPrefix) + block.text : std::string(kSignature);
}

Json MessagesAnswer::message_json(Json::Array content, const UsageCount& usage) const {
  return Json::Object{{"id", id_},
                      {"type", "message"},
                      {"role", "assistant"},
                      {"model", model_},
                      {"content", std::move(content)},
                      {"stop_reason", or_null(reason_)},
                      {"stop_sequence", or_null(stop_sequence_)},
                      {"usage", usage_json(usage)}};
}

std::string MessagesAnswer::begin(const UsageCount& usage) {
  const Json start = Json::Object{{"type", "message_start"}, {"message", message_json({}, usage)}};
  return event_of("message_start", to_json(start)) + std::string(kAnthropicPing);
}

void MessagesAnswer::open(Block block, std::string& events) {
  close(events);
  Json content;
  switch (block.kind) {
    case Kind::thinking: content = Json::Object{{"type", "thinking"}, {"thinking", ""}, {"signature", ""}}; break;
    case Kind::text: content = Json::Object{{"type", "text"}, {"text", ""}}; break;
    case Kind::tool_use:
      content = Json::Object{{"type", "tool_use"}, {"id", block.id}, {"name", block.name}, {"input", Json::Object{}}};
  }
  const Json start = Json::Object{{"type", "content_block_start"},
                                  {"index", static_cast<std::int64_t>(blocks_.size())},
                                  {"content_block", std::move(content)}};
  events += event_of("content_block_start", to_json(start));
  blocks_.push_back(std::move(block));
  open_ = true;
}

void MessagesAnswer::close(std::string& events) {
  if (!std::exchange(open_, false)) return;
  if (blocks_.back().kind == Kind::thinking)
    delta("signature_delta", "signature", signature_of(blocks_.back()), events);
  events +=
      event_of("content_block_stop", detail::join(R"({"type":"content_block_stop","index":)", blocks_.size() - 1, "}"));
}

// Many, and so written without a Json of each.
void MessagesAnswer::delta(std::string_view type, std::string_view member, std::string_view text, std::string& events) {
  events +=
      detail::join("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":", blocks_.size() - 1,
                   ",\"delta\":{\"type\":\"", type, "\",\"", member, "\":");
  append_json_string(events, text);
  events += "}}\n\n";
}

void MessagesAnswer::add_text(Kind kind, std::string_view text, std::string& events) {
  if (text.empty()) return;
  if (!open_ || blocks_.back().kind != kind) open({.kind = kind, .text = {}, .id = {}, .name = {}}, events);
  blocks_.back().text += text;
  if (kind == Kind::text)
    delta("text_delta", "text", text, events);
  else if (!omits_thinking_)
    delta("thinking_delta", "thinking", text, events);
}

void MessagesAnswer::add_call(const ToolCallDelta& call, std::string& events) {
  if (call.name)
    open({.kind = Kind::tool_use, .text = {}, .id = make_id_("toolu_"), .name = *call.name, .call = call.index},
         events);
  if (!open_ || blocks_.back().kind != Kind::tool_use || blocks_.back().call != call.index)
    throw std::logic_error("a call goes on after its end");
  if (call.arguments.empty()) return;
  blocks_.back().text += call.arguments;
  delta("input_json_delta", "partial_json", call.arguments, events);
}

std::string MessagesAnswer::add(const ChatPiece& piece) {
  std::string events;
  add_text(Kind::thinking, piece.reasoning, events);
  for (const ToolCallDelta& call : piece.continued()) add_call(call, events);
  add_text(Kind::text, piece.content, events);
  for (const ToolCallDelta& call : piece.begun()) add_call(call, events);
  return events;
}

std::string MessagesAnswer::end(std::string_view reason, std::string_view stop_sequence, const UsageCount& usage) {
  std::string events;
  close(events);
  bool calls = false;
  for (const Block& block : blocks_) calls |= block.kind == Kind::tool_use;
  reason_ = reason == "end_turn" && calls ? "tool_use" : reason;
  stop_sequence_ = stop_sequence;
  usage_ = usage;
  const Json delta =
      Json::Object{{"type", "message_delta"},
                   {"delta", Json::Object{{"stop_reason", reason_}, {"stop_sequence", or_null(stop_sequence_)}}},
                   {"usage", usage_json(usage)}};
  return events + event_of("message_delta", to_json(delta)) + event_of("message_stop", R"({"type":"message_stop"})");
}

Json MessagesAnswer::whole() const {
  Json::Array content;
  for (const Block& block : blocks_) switch (block.kind) {
      case Kind::thinking:
        content.emplace_back(Json::Object{
            {"type", "thinking"}, {"thinking", omits_thinking_ ? "" : block.text}, {"signature", signature_of(block)}});
        break;
      case Kind::text: content.emplace_back(Json::Object{{"type", "text"}, {"text", block.text}}); break;
      case Kind::tool_use:
        content.emplace_back(Json::Object{
            {"type", "tool_use"}, {"id", block.id}, {"name", block.name}, {"input", input_json(block.text)}});
    }
  return message_json(std::move(content), usage_);
}

}  // namespace cajal::protocol
