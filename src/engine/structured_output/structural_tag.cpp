#include "engine/structured_output/structural_tag.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/structured_output/grammar_backend.h"
#include "engine/structured_output/json_schema.h"

namespace cajal {
namespace {

constexpr std::size_t kMaxPatternBytes = 4096, kMaxGrammarBytes = 64 << 10;
constexpr int kMaxDepth = 64;
constexpr std::int64_t kManyStates = std::int64_t{1} << 30;  // no more is told apart

// Brackets that are open at a time; what is quoted or escaped is not looked at closely, which makes it more, never less.
void check_nesting(const char* name, std::string_view text) {
  int depth = 0;
  for (const char c : text) {
    if (c == '(' || c == '[' || c == '{') ++depth;
    if ((c == ')' || c == ']' || c == '}') && depth > 0) --depth;
    if (depth > kMaxDepth)
      fail(ErrorCode::invalid_argument, name, " has more than ", kMaxDepth, " brackets in one another");
  }
}

void check_states(const char* name, std::string_view text, std::int64_t most) {
  if (count_states(text) > most)
    fail(ErrorCode::invalid_argument, name, " has more than ", most, " characters with its repetitions written out");
}

// What the compiler passes over, with a line on standard error or without.
void check_groups_and_anchors(std::string_view regex) {
  bool in_class = false;
  for (std::size_t i = 0; i < regex.size(); ++i) {
    const char c = regex[i];
    if (c == '\\') {
      ++i;
    } else if (in_class) {
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
    } else if (c == '(' && regex.substr(i + 1).starts_with('?') && !regex.substr(i + 1).starts_with("?:")) {
      fail(ErrorCode::invalid_argument, "regex looks ahead, looks behind or has a flag at byte ", i,
           ", expected no group but ( and (?:");
    } else if ((c == '^' && i > 0) || (c == '$' && i + 1 < regex.size())) {
      fail(ErrorCode::invalid_argument, "regex has an anchor in its middle, at byte ", i,
           ", expected none but the first ^ and the last $: it is of the whole text");
    }
  }
}

Json lower(const Json& format, const std::string& at);

Json lower_list(const Json& list, const std::string& at) {
  if (!list.is_array()) fail(ErrorCode::invalid_argument, at, ": expected an array");
  Json::Array result;
  for (std::size_t i = 0; i < list.as_array().size(); ++i)
    result.push_back(lower(list.as_array()[i], detail::join(at, "/", i)));
  return result;
}

void check_text(const Json& format, const char* key, void (*check)(std::string_view), const std::string& at) {
  const Json* text = format.find(key);
  if (!text || !text->is_string()) fail(ErrorCode::invalid_argument, at, "/", key, ": expected a string");
  with_context(at, [&] { check(text->as_string()); });
}

Json lower(const Json& format, const std::string& at) {
  const Json* type = format.find("type");
  if (!type || !type->is_string()) fail(ErrorCode::invalid_argument, at, ": a format has a type");
  const std::string& name = type->as_string();
  Json result = format;
  const auto descend = [&](const char* key, bool list) {
    const Json* inner = format.find(key);
    if (!inner) fail(ErrorCode::invalid_argument, at, ": ", name, " has ", key);
    const std::string path = at + "/" + key;
    result.set(key, list ? lower_list(*inner, path) : lower(*inner, path));
  };
  if (name == "json_schema" || name == "qwen_xml_parameter") {
    const Json* schema = format.find("json_schema");
    if (!schema) fail(ErrorCode::invalid_argument, at, ": ", name, " has json_schema");
    const Json* style = format.find("style");
    const bool is_json = name == "json_schema" && (!style || *style == Json("json"));
    result.set("json_schema", with_context(at + "/json_schema", [&] { return lower_json_schema(*schema, is_json); }));
    result.set("max_whitespace_cnt", kMostWhitespace);
  } else if (name == "regex") {
    check_text(format, "pattern", check_regex, at);
  } else if (name == "grammar") {
    check_text(format, "grammar", check_ebnf, at);
  } else if (name == "sequence" || name == "or") {
    descend("elements", true);
  } else if (name == "triggered_tags" || name == "tags_with_separator") {
    descend("tags", true);
  } else if (name == "tag" || name == "optional" || name == "plus" || name == "star") {
    descend("content", false);
  } else if (name != "const_string" && name != "any_text") {
    fail(ErrorCode::invalid_argument, at, ": the type '", name, "' is not supported");
  }
  return result;
}

// The larger number of {n}, {n,} and {n,m}, and where they end.
std::int64_t repeats_at(std::string_view text, std::size_t& at) {
  std::int64_t number = 0, most = 1;
  for (; at < text.size() && text[at] != '}'; ++at) {
    const bool digit = text[at] >= '0' && text[at] <= '9';
    number = digit ? std::min(number * 10 + (text[at] - '0'), kManyStates) : 0;
    most = std::max(most, number);
  }
  return most;
}

}  // namespace

std::int64_t count_states(std::string_view text) {
  std::vector<std::int64_t> sums{0};  // of groups that are open
  std::int64_t last = 0;              // of what a repetition would repeat; it is in the sum already
  bool in_class = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\') ++i;
    if (in_class && c != ']') continue;
    in_class = c == '[';
    if (c == '(') {
      sums.push_back(0);
      last = 0;
    } else if (c == '{') {
      const std::int64_t times = repeats_at(text, i);
      const std::int64_t repeated = times > kManyStates / std::max<std::int64_t>(last, 1) ? kManyStates : last * times;
      sums.back() += repeated - last;
      last = repeated;
    } else if (c == ')' && sums.size() > 1) {
      last = sums.back();
      sums.pop_back();
      sums.back() += last;
    } else if (c != '*' && c != '+' && c != '?' && c != '[') {
      last = 1;
      ++sums.back();
    }
    sums.back() = std::min(sums.back(), kManyStates);
  }
  std::int64_t sum = 0;
  for (const std::int64_t s : sums) sum += s;
  return sum;
}

Json lower_structural_tag(const Json& tag) {
  const Json* format = tag.find("format");
  if (!format) fail(ErrorCode::invalid_argument, "structural_tag has no format");
  return Json::Object{{"type", "structural_tag"}, {"format", lower(*format, "#/format")}};
}

void check_regex(std::string_view regex) {
  if (regex.size() > kMaxPatternBytes)
    fail(ErrorCode::invalid_argument, "regex has ", regex.size(), " bytes, expected at most ", kMaxPatternBytes);
  check_nesting("regex", regex);
  check_states("regex", regex, kMostStates);
  check_groups_and_anchors(regex);
}

void check_ebnf(std::string_view grammar) {
  if (grammar.size() > kMaxGrammarBytes)
    fail(ErrorCode::invalid_argument, "grammar has ", grammar.size(), " bytes, expected at most ", kMaxGrammarBytes);
  check_nesting("grammar", grammar);
  check_states("grammar", grammar, kMaxGrammarBytes);
}

}  // namespace cajal
