#include "cli/config_file.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

constexpr std::string_view kSpace = " \t\r";
constexpr const char* kForms = "write a JSON object, or lines `key: value` or `key = value`";

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string scalar_text(const Json& value) { return value.is_string() ? value.as_string() : to_json(value); }

std::vector<ConfigEntry> parse_json_config(std::string_view text, std::string_view file) {
  Json json;
  try {
    json = parse_json(text, file);
  } catch (const Error& e) {
    misuse(e.message(), remedy(kForms));
  }
  std::vector<ConfigEntry> entries;
  for (const auto& [key, value] : json.as_object()) {
    ConfigEntry entry{key, {}, std::string(file)};
    if (value.is_array())
      for (const Json& item : value.as_array()) entry.values.push_back(scalar_text(item));
    else if (!value.is_null())
      entry.values.push_back(scalar_text(value));
    entries.push_back(std::move(entry));
  }
  return entries;
}

// Where a quoted text that begins at `at` ends, its closing quote included; npos if it never does.
std::size_t end_of_quotes(std::string_view line, std::size_t at) {
  const char quote = line[at];
  for (std::size_t i = at + 1; i < line.size(); ++i) {
    if (quote == '"' && line[i] == '\\') {
      ++i;
    } else if (line[i] == quote) {
      return i + 1;
    }
  }
  return std::string_view::npos;
}

bool is_quote(char c) { return c == '"' || c == '\''; }

// The line without its comment: a # at its beginning or after a space, outside quoted texts.
std::string_view without_comment(std::string_view line) {
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char before = i == 0 ? ' ' : line[i - 1];
    if (line[i] == '#' && (before == ' ' || before == '\t')) return line.substr(0, i);
    if (is_quote(line[i]) && std::string_view(" \t[,:={").find(before) != std::string_view::npos)
      if (const std::size_t end = end_of_quotes(line, i); end != std::string_view::npos) i = end - 1;
  }
  return line;
}

std::string unquoted(std::string_view text, const std::string& where) {
  if (text.empty() || !is_quote(text[0])) return std::string(text);
  if (end_of_quotes(text, 0) != text.size())
    misuse(where, ": a quotation mark opens the value but does not end it",
           remedy("quote all of the value or nothing"));
  const std::string_view inside = text.substr(1, text.size() - 2);
  if (text[0] == '\'') return std::string(inside);
  try {
    return parse_json(text, where).as_string();
  } catch (const Error& e) {
    misuse(e.message(), remedy("write escapes as JSON does, or use single quotes"));
  }
}

std::vector<std::string> values_of(std::string_view text, const std::string& where) {
  if (text.empty() || text == "null" || text == "~") return {};
  if (text.front() != '[') return {unquoted(text, where)};
  if (text.back() != ']') misuse(where, ": a list is open at the end of the line", remedy("end it with ]"));
  std::vector<std::string> values;
  const std::string_view inside = text.substr(1, text.size() - 2);
  for (std::size_t at = 0; at < inside.size();) {
    std::size_t end = at;
    while (end < inside.size() && inside[end] != ',')
      end = is_quote(inside[end]) ? std::min(end_of_quotes(inside, end), inside.size()) : end + 1;
    values.push_back(unquoted(trim(inside.substr(at, end - at)), where));
    at = end + 1;
  }
  return values;
}

ConfigEntry parse_line(std::string_view line, std::string where) {
  const std::size_t end = line.find_first_of(" \t:=");
  const std::size_t sign = end == std::string_view::npos ? end : line.find_first_not_of(" \t", end);
  if (line[0] == '[')
    misuse(where, ": sections are not understood here", remedy("put the keys at the top of the file"));
  if (sign == std::string_view::npos || end == 0 || (line[sign] != ':' && line[sign] != '='))
    misuse(where, ": expected a key and its value", remedy(kForms));
  ConfigEntry entry{unquoted(line.substr(0, end), where), {}, std::move(where)};
  entry.values = values_of(trim(line.substr(sign + 1)), entry.where);
  return entry;
}

}  // namespace

std::vector<ConfigEntry> parse_config(std::string_view text, std::string_view file) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && text[first] == '{') return parse_json_config(text, file);
  std::vector<ConfigEntry> entries;
  int number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string where = detail::join(file, " line ", ++number);
    const std::string_view line = trim(without_comment(text.substr(at, end - at)));
    at = end + 1;
    if (line.empty() || line == "---") continue;
    if (line == "-" || line.starts_with("- ")) {
      if (entries.empty()) misuse(where, ": an item of a list, but no key before it", remedy(kForms));
      entries.back().values.push_back(unquoted(trim(line.substr(1)), where));
    } else {
      entries.push_back(parse_line(line, std::move(where)));
    }
  }
  return entries;
}

}  // namespace cajal::cli
