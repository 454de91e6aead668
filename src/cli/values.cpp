#include "cli/values.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <sstream>

#include "cli/usage_error.h"

namespace cajal::cli {
namespace {

template <class T>
std::optional<T> parse(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// What a message shows of a value: enough to recognise it.
std::string quoted(std::string_view text) {
  constexpr std::size_t kShown = 40;
  if (text.empty()) return "empty";
  return text.size() <= kShown ? std::string(text) : std::string(text.substr(0, kShown)) + "…";
}

std::string shortest(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

std::string describe(const Range& range) {
  const bool bounded = range.max < std::numeric_limits<double>::max();
  std::string text = "a number " + std::string(range.above_min ? "above " : bounded ? "from " : "of at least ");
  text += shortest(range.min);
  if (bounded) text += (range.above_min ? " and at most " : " to ") + shortest(range.max);
  return text;
}

[[noreturn]] void refuse_id(std::string_view what, std::size_t number, std::string_view item) {
  fail(ErrorCode::data_loss, what, ": item ", number, " is ", quoted(item), ", expected a token id, 0 to 2147483647",
       remedy("write ids as 1,2,3"));
}

std::vector<std::int32_t> ids_of_json(std::string_view text, std::string_view what) {
  const Json list = parse_json(text, what);
  std::vector<std::int32_t> ids;
  for (const Json& item : list.as_array()) {
    if (!item.is_int() || item.as_int() < 0 || item.as_int() > std::numeric_limits<std::int32_t>::max())
      refuse_id(what, ids.size() + 1, to_json(item));
    ids.push_back(static_cast<std::int32_t>(item.as_int()));
  }
  return ids;
}

}  // namespace

std::int64_t integer(const Given& given, std::int64_t min, std::int64_t max) {
  const auto value = parse<std::int64_t>(given.text);
  if (value && *value >= min && *value <= max) return *value;
  if (max == std::numeric_limits<std::int64_t>::max())
    misuse(given.label, " is ", quoted(given.text), ", expected an integer of at least ", min);
  misuse(given.label, " is ", quoted(given.text), ", expected an integer from ", min, " to ", max);
}

int small_integer(const Given& given, int min, int max) { return static_cast<int>(integer(given, min, max)); }

std::vector<int> integer_list(const Given& given, int min) {
  std::vector<int> values;
  for (std::string_view rest = given.text;;) {
    const std::size_t comma = rest.find(',');
    values.push_back(small_integer({std::string(trim(rest.substr(0, comma))), given.label}, min));
    if (comma == std::string_view::npos) return values;
    rest.remove_prefix(comma + 1);
  }
}

double decimal(const Given& given, const Range& range) {
  const auto value = parse<double>(given.text);
  const bool inside = value && std::isfinite(*value) && (range.above_min ? *value > range.min : *value >= range.min) &&
                      *value <= range.max;
  if (!inside) misuse(given.label, " is ", quoted(given.text), ", expected ", describe(range));
  return *value;
}

bool boolean(const Given& given) {
  const std::string word = one_of(given, {"true", "false", "1", "0", "yes", "no", "on", "off"});
  return word == "true" || word == "1" || word == "yes" || word == "on";
}

Json json_object(const Given& given) {
  Json value;
  try {
    value = parse_json(given.text, given.label);
  } catch (const Error& e) {
    misuse(e.message(), remedy("give a JSON object, in single quotes for the shell: '{\"key\": 1}'"));
  }
  if (!value.is_object())
    misuse(given.label, " is ", value.type_name(), ", expected a JSON object such as '{\"key\": 1}'");
  return value;
}

std::string one_of(const Given& given, std::initializer_list<std::string_view> words) {
  std::string word = lower(given.text);
  if (std::find(words.begin(), words.end(), word) != words.end()) return word;
  std::string list;
  for (const std::string_view w : words)
    list += (list.empty() ? "" : w == *(words.end() - 1) ? " or " : ", ") + std::string(w);
  misuse(given.label, " is ", quoted(given.text), ", expected ", list);
}

void not_in_this_version(const Given& given, std::string_view what_to_do) {
  misuse(given.label, given.text.empty() ? "" : " ", given.text, " is not in this version of cajal yet",
         remedy(what_to_do));
}

std::vector<std::int32_t> parse_token_ids(std::string_view text, std::string_view what) {
  if (trim(text).starts_with('[')) return ids_of_json(text, what);
  constexpr std::string_view kSeparators = ", \t\r\n";
  std::vector<std::int32_t> ids;
  for (std::size_t at = 0; (at = text.find_first_not_of(kSeparators, at)) != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(kSeparators, at), text.size());
    const std::string_view item = text.substr(at, end - at);
    const auto id = parse<std::int32_t>(item);
    if (!id || *id < 0) refuse_id(what, ids.size() + 1, item);
    ids.push_back(*id);
    at = end;
  }
  return ids;
}

}  // namespace cajal::cli
