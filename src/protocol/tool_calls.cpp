#include "protocol/tool_calls.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"

namespace cajal::protocol {
namespace {

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>";
constexpr std::string_view kFunction = "<function=", kEndFunction = "</function>";
constexpr std::string_view kParameter = "<parameter=", kEndParameter = "</parameter>";
constexpr std::string_view kSpace = " \t\r\n";

// How much of the end of `text` may be the beginning of `tag`.
std::size_t begun(std::string_view text, std::string_view tag) {
  std::size_t length = std::min(text.size(), tag.size() - 1);
  while (!text.ends_with(tag.substr(0, length))) --length;
  return length;
}

bool may_become(std::string_view text, std::string_view tag) {
  return tag.starts_with(text.substr(0, tag.size())) && text.size() < tag.size();
}

std::string without_border_newlines(std::string_view text) {
  if (text.starts_with('\n')) text.remove_prefix(1);
  if (text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text);
}

std::optional<Json> parsed(std::string_view text) {
  try {
    return parse_json(text, "a value", {.max_depth = 60});
  } catch (const Error&) {
    return std::nullopt;
  }
}

// The type that a tool's schema gives to a parameter, or "".
std::string type_of(const Json::Array& tools, const std::string& function, const std::string& parameter) {
  for (const Json& tool : tools) {
    const Json* f = tool.find("function");
    const Json* name = f ? f->find("name") : nullptr;
    if (!name || *name != Json(function)) continue;
    const Json* at = f;
    for (const std::string& key :
         {std::string("parameters"), std::string("properties"), parameter, std::string("type")})
      at = at ? at->find(key) : nullptr;
    return at && at->is_string() ? at->as_string() : "";
  }
  return "";
}

}  // namespace

ParsedText ToolCallParser::push(std::string_view text) {
  held_ += text;
  ParsedText out;
  while (step(out)) {
  }
  return out;
}

// False when more text is needed.
bool ToolCallParser::step(ParsedText& out) {
  switch (state_) {
    case State::content: return in_content(out);
    case State::opened: return in_opened(out);
    case State::json: return in_json(out);
    case State::xml_name: return in_xml_name(out);
    case State::xml_body: return in_xml_body(out);
    case State::skip: return in_skip();
  }
  return false;
}

ParsedText ToolCallParser::flush() {
  ParsedText out;
  if (state_ == State::content) {
    const bool only_space = held_.find_first_not_of(kSpace) == std::string::npos;
    if (!only_space || num_calls_ == 0) out.content = std::exchange(held_, {});
  } else if (!has_name_ && state_ != State::skip) {
    out.content = std::exchange(raw_, {}) + std::exchange(held_, {});
  }
  held_.clear();
  return out;
}

bool ToolCallParser::in_content(ParsedText& out) {
  const std::size_t tag = held_.find(kOpen);
  std::size_t certain = tag != std::string::npos ? tag : held_.size() - begun(held_, kOpen);
  // White space goes with what follows it.
  while (certain > 0 && kSpace.find(held_[certain - 1]) != std::string_view::npos) --certain;
  out.content.append(held_, 0, certain);
  if (tag == std::string::npos) {
    held_.erase(0, certain);
    return false;
  }
  raw_ = held_.substr(certain, tag + kOpen.size() - certain);
  held_.erase(0, tag + kOpen.size());
  state_ = State::opened;
  has_name_ = has_arguments_ = in_value_ = streams_ = false;
  key_.clear();
  value_.clear();
  early_arguments_.clear();
  scanner_ = {};
  return true;
}

bool ToolCallParser::in_opened(ParsedText& out) {
  const std::size_t begin = held_.find_first_not_of(kSpace);
  if (begin == std::string::npos) return false;
  if (held_[begin] == '{') {
    state_ = State::json;
    return true;
  }
  const std::string_view rest = std::string_view(held_).substr(begin);
  if (may_become(rest, kFunction)) return false;
  if (!rest.starts_with(kFunction)) return no_call(out);
  raw_ += held_.substr(0, begin + kFunction.size());
  held_.erase(0, begin + kFunction.size());
  state_ = State::xml_name;
  return true;
}

// What was taken for a call is text of the model.
bool ToolCallParser::no_call(ParsedText& out) {
  state_ = State::content;
  out.content += std::exchange(raw_, {});
  return true;
}

void ToolCallParser::begin_call(std::string name, ParsedText& out) {
  has_name_ = true;
  out.calls.push_back({num_calls_++, std::move(name), {}});
  raw_.clear();
}

void ToolCallParser::give(ParsedText& out, std::string_view arguments) {
  has_arguments_ = true;
  if (out.calls.empty() || out.calls.back().index != num_calls_ - 1) out.calls.push_back({num_calls_ - 1, {}, {}});
  out.calls.back().arguments += arguments;
}

bool ToolCallParser::in_json(ParsedText& out) {
  for (std::size_t i = 0; i < held_.size(); ++i) {
    const char c = held_[i];
    if (!has_name_) raw_ += c;
    const bool key_before = scanner_.in_key(), value_before = in_value_;
    const std::size_t depth = scanner_.depth();
    if (!scanner_.push(c)) {
      held_.erase(0, i + 1);
      state_ = State::skip;
      if (has_name_) return true;
      // The text goes on as content from here; what stood in front of it may hold another call, and is looked at no more.
      return no_call(out);
    }
    if (key_before && scanner_.in_key()) key_ += c;
    if (!key_before && scanner_.in_key()) key_.clear();
    // A number ends with what stands behind it.
    const bool ends_behind = value_before && depth == 1 && (c == ',' || scanner_.done()) && !scanner_.in_key();
    if (value_before && !ends_behind) json_character(c, out);
    if (value_before && (ends_behind || scanner_.after_value())) end_member(out);
    if (!in_value_ && scanner_.at_value()) {
      in_value_ = true;
      streams_ = false;
      value_.clear();
    }
    if (scanner_.done()) {
      held_.erase(0, i + 1);
      return end_json(out);
    }
  }
  held_.clear();
  return false;
}

void ToolCallParser::json_character(char c, ParsedText& out) {
  const bool is_arguments = key_ == "arguments" || key_ == "parameters";
  if (value_.empty() && kSpace.find(c) != std::string_view::npos) return;
  if (value_.empty() && is_arguments && c == '{' && !has_arguments_ && early_arguments_.empty()) streams_ = true;
  value_ += c;
  if (streams_ && has_name_) give(out, std::string_view(&c, 1));
}

void ToolCallParser::end_member(ParsedText& out) {
  in_value_ = false;
  const std::string value = value_.substr(0, value_.find_last_not_of(kSpace) + 1);
  if (key_ == "name" && !has_name_) {
    const auto name = parsed(value);
    if (!name || !name->is_string() || name->as_string().empty()) return;
    begin_call(name->as_string(), out);
    if (!early_arguments_.empty()) give(out, early_arguments_);
  } else if (key_ == "arguments" || key_ == "parameters") {
    if (has_arguments_ || !early_arguments_.empty()) return;
    const auto arguments = parsed(value);
    std::string text = arguments && arguments->is_string() ? arguments->as_string() : value;  // encoded twice
    if (!arguments || arguments->is_null() || text.empty()) text = "{}";
    if (has_name_)
      give(out, text);
    else
      early_arguments_ = std::move(text);
  }
}

bool ToolCallParser::end_json(ParsedText& out) {
  state_ = State::skip;
  if (!has_name_) return no_call(out);
  if (!has_arguments_) give(out, "{}");
  return true;
}

bool ToolCallParser::in_xml_name(ParsedText& out) {
  const std::size_t end = held_.find_first_of(">\n<");
  if (end == std::string::npos) return false;
  function_ = held_.substr(0, end);
  const bool is_name = held_[end] == '>' && !function_.empty();
  if (!is_name) return no_call(out);
  held_.erase(0, end + 1);
  begin_call(function_, out);
  give(out, "{");
  has_arguments_ = false;
  state_ = State::xml_body;
  return true;
}

bool ToolCallParser::in_xml_body(ParsedText& out) {
  held_.erase(0, std::min(held_.find('<'), held_.size()));
  if (held_.starts_with(kParameter)) return read_parameter(out);
  if (held_.starts_with(kEndFunction) || held_.starts_with(kClose)) {
    give(out, "}");
    state_ = State::skip;
    return true;
  }
  for (const std::string_view tag : {kParameter, kEndFunction, kClose})
    if (may_become(held_, tag)) return false;
  held_.erase(0, 1);
  return true;
}

bool ToolCallParser::read_parameter(ParsedText& out) {
  const std::size_t name_end = held_.find('>');
  if (name_end == std::string::npos) return false;
  const std::string name = held_.substr(kParameter.size(), name_end - kParameter.size());
  // Models forget to close one now and then.
  std::size_t end = std::string::npos, next = 0;
  for (const auto& [tag, length] : {std::pair(std::string(kEndParameter), kEndParameter.size()),
                                    std::pair("\n" + std::string(kParameter), std::size_t{1}),
                                    std::pair("\n" + std::string(kEndFunction), std::size_t{1})}) {
    const std::size_t at = held_.find(tag, name_end + 1);
    if (at < end) end = at, next = at + length;
  }
  if (end == std::string::npos) return false;
  const std::string value = without_border_newlines(std::string_view(held_).substr(name_end + 1, end - name_end - 1));
  held_.erase(0, next);
  std::string member = has_arguments_ ? ", " : "";
  append_json_string(member, name);
  give(out, member + ": " + parameter_json(name, value));
  return true;
}

std::string ToolCallParser::parameter_json(const std::string& parameter, const std::string& value) const {
  const std::string type = type_of(tools_, function_, parameter);
  if (type != "string" && !type.empty()) {
    // As Python writes them.
    for (const auto& [python, json] :
         {std::pair("True", "true"), std::pair("False", "false"), std::pair("None", "null")})
      if (value == python) return json;
    if (const auto json = parsed(value)) return to_json(*json);
  }
  std::string text;
  append_json_string(text, value);
  return text;
}

// To the end of the call, whatever stands there.
bool ToolCallParser::in_skip() {
  const std::size_t close = held_.find(kClose), open = held_.find(kOpen);
  if (close != std::string::npos && close < open) {
    held_.erase(0, close + kClose.size());
  } else if (open != std::string::npos) {
    held_.erase(0, open);
  } else {
    held_.erase(0, held_.size() - std::max(begun(held_, kClose), begun(held_, kOpen)));
    return false;
  }
  state_ = State::content;
  return true;
}

}  // namespace cajal::protocol
