#include "cli/text_lines.h"

#include "base/error.h"

namespace cajal::cli {
namespace {

TextLine read_line(std::string_view line, const std::string& where, std::string_view other_key) {
  const Remedy what_to_do = remedy("write one JSON string a line, or an object such as {\"text\": \"…\"}");
  const Json json = parse_json(line, where);
  if (json.is_string()) return {json.as_string(), {}};
  if (!json.is_object())
    fail(ErrorCode::data_loss, where, ": ", json.type_name(), ", expected a JSON string or an object", what_to_do);
  const Json* text = json.find("text");
  if (!text) text = json.find(other_key);
  if (!text) fail(ErrorCode::data_loss, where, ": has no member \"text\" and no \"", other_key, "\"", what_to_do);
  if (!text->is_string())
    fail(ErrorCode::data_loss, where, ": the text is ", text->type_name(), ", expected a string", what_to_do);
  const Json* id = json.find("id");
  return {text->as_string(), id ? *id : Json()};
}

}  // namespace

std::vector<TextLine> read_text_lines(std::string_view content, std::string_view what, std::string_view other_key) {
  std::vector<TextLine> lines;
  std::size_t number = 0;
  for (std::size_t at = 0; at < content.size();) {
    const std::size_t end = std::min(content.find('\n', at), content.size());
    const std::string_view line = content.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    lines.push_back(read_line(line, detail::join(what, " line ", number), other_key));
  }
  return lines;
}

}  // namespace cajal::cli
