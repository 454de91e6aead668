#include "load/stream_reader.h"

#include "base/error.h"
#include "base/json.h"

namespace cajal::load {
namespace {

const Json* at(const Json* value, std::string_view key) { return value ? value->find(key) : nullptr; }

std::string_view string_or_empty(const Json* value) {
  return value && value->is_string() ? std::string_view(value->as_string()) : std::string_view();
}

std::int64_t int_or_0(const Json* value) { return value && value->is_int() ? value->as_int() : 0; }

}  // namespace

void StreamReader::push(std::string_view piece, double now) {
  held_ += piece;
  std::size_t begin = 0;
  for (std::size_t end = held_.find('\n'); end != std::string::npos; end = held_.find('\n', begin)) {
    std::string_view line = std::string_view(held_).substr(begin, end - begin);
    begin = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with("data:")) continue;  // a comment, the name of an event, or the end of one
    line.remove_prefix(5);
    if (line.starts_with(' ')) line.remove_prefix(1);
    read_event(line, now);
  }
  held_.erase(0, begin);
}

void StreamReader::read_event(std::string_view data, double now) {
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  Json event;
  try {
    event = parse_json(data, "an event");
  } catch (const Error& e) {
    if (error_.empty()) error_ = e.message();
    return;
  }
  if (const Json* error = event.find("error"); error && !error->is_null()) {
    const std::string_view message = string_or_empty(error->find("message"));
    error_ = message.empty() ? to_json(*error) : std::string(message);
    return;
  }
  if (const Json* usage = event.find("usage"); usage && usage->is_object()) {
    prompt_tokens_ = int_or_0(usage->find("prompt_tokens"));
    completion_tokens_ = int_or_0(usage->find("completion_tokens"));
  }
  const Json* choices = event.find("choices");
  if (!choices || !choices->is_array() || choices->as_array().empty()) return;
  const Json& choice = choices->as_array()[0];
  std::string_view text = string_or_empty(choice.find("text"));
  if (const Json* delta = choice.find("delta")) {
    // The chunk with the role alone is no token. A call of a tool is.
    text = string_or_empty(at(delta, "content"));
    if (text.empty()) text = string_or_empty(at(delta, "reasoning"));
    if (text.empty()) text = string_or_empty(at(delta, "reasoning_content"));
    const Json* calls = at(delta, "tool_calls");
    const Json* reason = choice.find("finish_reason");
    if (text.empty() && (!calls || calls->is_null()) && (!reason || reason->is_null())) return;
  }
  if (any_)
    gaps_.push_back(now - last_);
  else
    first_ = now;
  any_ = true;
  last_ = now;
  text_ += text;
}

void StreamReader::finish(const std::string& error, RequestOutcome& outcome) const {
  outcome.ttft = first_;
  outcome.latency = last_;
  outcome.itl = gaps_;
  outcome.generated_text = text_;
  outcome.output_tokens = completion_tokens_ > 0 ? completion_tokens_ : static_cast<std::int64_t>(gaps_.size() + any_);
  outcome.error = !error.empty()    ? error
                  : !error_.empty() ? error_
                  : !any_           ? "the stream had no token"
                  : !done_          ? "the stream ended without [DONE]"
                                    : "";
}

std::string error_text(int status, std::string_view body) {
  std::string text;
  try {
    const Json json = parse_json(body, "the answer");
    text = string_or_empty(at(json.find("error"), "message"));
    if (text.empty()) text = string_or_empty(json.find("message"));
  } catch (const Error&) {
  }
  if (text.empty()) text = body.substr(0, 200);
  return detail::join("HTTP ", status, text.empty() ? "" : ": ", text);
}

}  // namespace cajal::load
