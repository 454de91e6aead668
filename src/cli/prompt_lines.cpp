#include "cli/prompt_lines.h"

#include <algorithm>
#include <array>
#include <limits>

namespace cajal::cli {
namespace {

[[noreturn]] void refuse(const std::string& key, const Json& value, std::string_view expected) {
  fail(ErrorCode::data_loss, "'", key, "' is ", value.is_null() ? "null" : to_json(value), ", expected ", expected);
}

std::int64_t integer(const std::string& key, const Json& v, std::int64_t least) {
  if (!v.is_int() || v.as_int() < least) refuse(key, v, detail::join("an integer of at least ", least));
  return v.as_int();
}

int small_integer(const std::string& key, const Json& v, int least) {
  constexpr int kMost = std::numeric_limits<int>::max();
  const std::int64_t value = integer(key, v, least);
  if (value > kMost) refuse(key, v, detail::join("an integer of at most ", kMost));
  return static_cast<int>(value);
}

double number(const std::string& key, const Json& v) {
  if (!v.is_number()) refuse(key, v, "a number");
  return v.as_double();
}

bool boolean(const std::string& key, const Json& v) {
  if (!v.is_bool()) refuse(key, v, "true or false");
  return v.as_bool();
}

const std::string& text(const std::string& key, const Json& v) {
  if (!v.is_string()) refuse(key, v, "a text");
  return v.as_string();
}

std::vector<std::int32_t> ids(const std::string& key, const Json& v) {
  if (!v.is_array()) refuse(key, v, "a list of token ids");
  std::vector<std::int32_t> result;
  for (const Json& id : v.as_array()) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() > std::numeric_limits<std::int32_t>::max())
      refuse(key, id, "token ids in it");
    result.push_back(static_cast<std::int32_t>(id.as_int()));
  }
  return result;
}

std::vector<std::string> stops(const std::string& key, const Json& v) {
  std::vector<std::string> result;
  if (v.is_array())
    for (const Json& stop : v.as_array()) result.push_back(text(key, stop));
  else
    result.push_back(text(key, v));
  if (std::find(result.begin(), result.end(), "") != result.end()) refuse(key, v, "texts that are not empty");
  return result;
}

struct Field {
  std::string_view name;
  void (*set)(PromptLine& line, const std::string& key, const Json& value);
};

using Line = PromptLine;
using Key = const std::string&;
using Value = const Json&;

void set_max(Line& l, Key k, Value v) { l.generate.max_new_tokens = integer(k, v, 1); }
void set_n(Line& l, Key k, Value v) { l.generate.num_return_sequences = small_integer(k, v, 1); }
void set_ids(Line& l, Key k, Value v) { l.token_ids = ids(k, v); }

void set_id(Line& l, Key k, Value v) {
  if (!v.is_string() && !v.is_int()) refuse(k, v, "a text or an integer");
  l.id = v;
}

void set_messages(Line& l, Key k, Value v) {
  if (!v.is_array() || v.as_array().empty()) refuse(k, v, "a list of messages");
  l.messages = v.as_array();
}

constexpr auto kFields = std::to_array<Field>({
    {"id", set_id},
    {"custom_id", set_id},
    {"prompt", [](Line& l, Key k, Value v) { l.prompt = text(k, v); }},
    {"token_ids", set_ids},
    {"prompt_token_ids", set_ids},
    {"messages", set_messages},
    {"enable_thinking", [](Line& l, Key k, Value v) { l.enable_thinking = boolean(k, v); }},
    {"max_new_tokens", set_max},
    {"max_tokens", set_max},
    {"temperature", [](Line& l, Key k, Value v) { l.generate.temperature = number(k, v); }},
    {"top_k", [](Line& l, Key k, Value v) { l.generate.top_k = small_integer(k, v, -1); }},
    {"top_p", [](Line& l, Key k, Value v) { l.generate.top_p = number(k, v); }},
    {"min_p", [](Line& l, Key k, Value v) { l.generate.min_p = number(k, v); }},
    {"repetition_penalty", [](Line& l, Key k, Value v) { l.generate.repetition_penalty = number(k, v); }},
    {"presence_penalty", [](Line& l, Key k, Value v) { l.generate.presence_penalty = number(k, v); }},
    {"frequency_penalty", [](Line& l, Key k, Value v) { l.generate.frequency_penalty = number(k, v); }},
    {"seed", [](Line& l, Key k, Value v) { l.generate.seed = static_cast<std::uint64_t>(integer(k, v, 0)); }},
    {"stop", [](Line& l, Key k, Value v) { l.generate.stop = stops(k, v); }},
    {"ignore_eos", [](Line& l, Key k, Value v) { l.generate.ignore_eos = boolean(k, v); }},
    {"logprobs", [](Line& l, Key k, Value v) { l.generate.logprobs = small_integer(k, v, 0); }},
    {"n", set_n},
    {"num_return_sequences", set_n},
    {"priority", [](Line& l, Key k, Value v) { l.priority = small_integer(k, v, std::numeric_limits<int>::min()); }},
    {"timeout_ms", [](Line& l, Key k, Value v) { l.timeout_ms = integer(k, v, 0); }},
    {"cache_salt", [](Line& l, Key k, Value v) { l.cache_salt = text(k, v); }},
});

std::string field_names() {
  std::string names;
  for (const Field& f : kFields) names += (names.empty() ? "" : ", ") + std::string(f.name);
  return names;
}

void fill(PromptLine& line, const Json& value) {
  if (value.is_string()) {
    line.prompt = value.as_string();
    return;
  }
  if (!value.is_object()) fail(ErrorCode::data_loss, "it is ", value.type_name(), ", expected a text or an object");
  for (const auto& [key, member] : value.as_object()) {
    const std::string_view name = key;
    const auto field = std::find_if(kFields.begin(), kFields.end(), [&](const Field& f) { return f.name == name; });
    if (field == kFields.end())
      fail(ErrorCode::data_loss, "'", key, "' is not a field of a request", remedy("expected one of ", field_names()));
    if (!member.is_null()) field->set(line, key, member);
  }
  const int prompts = line.prompt.has_value() + line.token_ids.has_value() + !line.messages.empty();
  if (prompts != 1)
    fail(ErrorCode::data_loss, prompts ? "it has more than one" : "it has none", " of prompt, token_ids and messages",
         remedy("give exactly one of them"));
}

}  // namespace

bool has_prompt_lines(const std::string& path, std::string_view text) {
  if (path.ends_with(".jsonl")) return true;
  const std::string_view first = text.substr(0, text.find('\n'));
  if (!first.starts_with('{')) return false;
  try {
    const Json line = parse_json(first, "the first line");
    return line.find("prompt") || line.find("messages") || line.find("token_ids") || line.find("prompt_token_ids");
  } catch (const Error&) {
    return false;
  }
}

std::vector<PromptLine> read_prompt_lines(std::string_view text, std::string_view what, const GenerateFlags& defaults) {
  std::vector<PromptLine> lines;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view content = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (content.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    PromptLine& line = lines.emplace_back();
    line.number = number;
    line.generate = defaults;
    const std::string where = detail::join(what, ", line ", number);
    try {
      with_context(where, [&] { fill(line, parse_json(content, "the JSON")); });
    } catch (const Error& e) {
      line.error = e;
    }
  }
  return lines;
}

}  // namespace cajal::cli
