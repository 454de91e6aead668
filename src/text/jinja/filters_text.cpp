// Filters of strings and numbers.
#include <array>
#include <charconv>
#include <cmath>

#include "text/jinja/case.h"
#include "text/jinja/filters.h"
#include "text/jinja/json_dump.h"
#include "text/jinja/operators.h"
#include "text/jinja/str_methods.h"
#include "text/unicode.h"

namespace cajal::jinja {
namespace {

Value filter_upper(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("upper", args, {});
  return upper(rt, to_str(rt, v));
}
Value filter_lower(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("lower", args, {});
  return lower(rt, to_str(rt, v));
}
Value filter_capitalize(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("capitalize", args, {});
  return capitalize(rt, to_str(rt, v));
}

Value filter_title(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("title", args, {});
  bool begins = true;  // words begin after spaces, hyphens and opening brackets
  return map_characters(rt, to_str(rt, v), [&](std::string& out, char32_t c) {
    begins ? append_upper(out, c) : append_lower(out, c);
    begins = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  });
}

Value filter_trim(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("trim", args, {"chars"});
  const Str* chars = b.has(0) && !b[0].is_none() ? &require_str(b[0], "strip arg must be None or str") : nullptr;
  return strip(rt, to_str(rt, v), chars, true, true);
}

Value filter_string(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("string", args, {});
  return to_str(rt, v);
}

Value without_markup(const StrRef& text) {
  if (!text->markup) return text;
  auto plain = std::make_shared<Str>(*text);
  plain->markup = false;
  return StrRef(std::move(plain));
}

Value filter_replace(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("replace", args, {"old", "new", "count"}, 2);
  const std::int64_t count = b.has(2) && !b[2].is_none() ? require_integer(b[2]) : -1;
  return without_markup(replace(rt, to_str(rt, v), *to_str(rt, b[0]), *to_str(rt, b[1]), count));
}

Value filter_safe(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("safe", args, {});
  const StrRef text = to_str(rt, v);
  if (text->markup) return text;
  rt.meter.produce(text->bytes.size());
  auto marked = std::make_shared<Str>(*text);
  marked->markup = true;
  return StrRef(std::move(marked));
}

Value filter_escape(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("escape", args, {});
  return escape_html(rt, v);
}
Value filter_forceescape(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("forceescape", args, {});
  return escape_html(rt, without_markup(to_str(rt, v)));
}

Value filter_format(Runtime& rt, const Value& v, const Args& args) {
  if (!args.positional.empty() && !args.named.empty())
    raise(ErrorKind::runtime, "can't handle positional and keyword arguments at the same time");
  const Value format = to_str(rt, v);
  if (args.named.empty()) return percent_format(rt, format, make_tuple(rt.meter, args.positional));
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, value] : args.named) dict->set(rt.meter, Value::text(name), value);
  return percent_format(rt, format, DictRef(std::move(dict)));
}

Value filter_center(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("center", args, {"width"});
  return pad(rt, to_str(rt, v), b.integer_or(0, 80), *make_str(" "), '^');
}

Value filter_indent(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("indent", args, {"width", "first", "blank"});
  if (!v.str()) {
    require_defined(v);
    raise(ErrorKind::type, "unsupported operand type(s) for +=: '", type_name(v), "' and 'str'");
  }
  StrRef indention = make_str("    ");
  if (b.has(0)) {
    if (b[0].str()) {
      indention = b[0].str_ref();
    } else {
      const std::int64_t n = std::max<std::int64_t>(require_integer(b[0]), 0);
      rt.meter.check_string(static_cast<std::uint64_t>(n));
      indention = make_str(std::string(static_cast<std::size_t>(n), ' '));
    }
  }
  const bool blank = b.truth_or(2, false);
  StrBuilder whole(rt.meter), out(rt.meter);
  whole.add(*v.str());
  whole.add("\n");  // so that the last line ends as the others do
  if (b.truth_or(1, false)) out.add(*indention);
  bool first = true;
  for (const Value& line : split_lines(rt, whole.finish(), false)) {
    if (!first) {
      out.add("\n");
      if (blank || !line.str()->bytes.empty()) out.add(*indention);
    }
    first = false;
    out.add(*line.str());
  }
  return out.finish(v.str()->markup);
}

Value filter_truncate(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("truncate", args, {"length", "killwords", "end", "leeway"});
  const std::int64_t length = b.integer_or(0, 255);
  const Value end_value = b.value_or(2, Value::text("..."));
  const Str& end = require_str(end_value, "end must be a string");
  const std::int64_t leeway = b.has(3) && !b[3].is_none() ? require_integer(b[3]) : 5;
  const auto end_length = static_cast<std::int64_t>(end.length);
  if (length < end_length) raise(ErrorKind::runtime, "expected length >= ", end_length, ", got ", length);
  if (leeway < 0) raise(ErrorKind::runtime, "expected leeway >= 0, got ", leeway);
  const auto size = static_cast<std::int64_t>(length_of(v).value_or(0));
  if (!length_of(v)) raise(ErrorKind::type, "object of type '", type_name(v), "' has no len()");
  if (size <= length || size - length <= leeway) return v;
  if (!v.str()) raise(ErrorKind::type, "only strings can be truncated, not ", type_name(v));
  const StrRef& text = v.str_ref();
  std::size_t cut = text->offset_of(static_cast<std::size_t>(length - end_length));
  if (!b.truth_or(1, false)) {
    const std::size_t space = std::string_view(text->bytes).substr(0, cut).rfind(' ');
    if (space != std::string_view::npos) cut = space;
  }
  StrBuilder out(rt.meter);
  out.add(*text, 0, cut);
  out.add(end);
  return out.finish(text->markup);
}

Value filter_wordcount(Runtime& rt, const Value& v, const Args& args) {
  const Bound b("wordcount", args, {});
  const StrRef text = to_str(rt, v);
  std::int64_t words = 0;
  bool inside = false;
  for (std::size_t at = 0; at < text->bytes.size();) {
    const auto c = unicode::decode_valid(text->bytes, at);
    const bool word = unicode::properties_of(c.value) & unicode::kWord;
    words += word && !inside;
    inside = word;
    at += c.length;
  }
  return words;
}

// --- numbers ---

std::string_view stripped(std::string_view text) {
  while (!text.empty() && is_space(unicode::decode_valid(text, 0).value))
    text.remove_prefix(unicode::decode_valid(text, 0).length);
  while (!text.empty()) {
    const std::size_t last = unicode::start_of_last(text, text.size());
    if (!is_space(unicode::decode_valid(text, last).value)) break;
    text = text.substr(0, last);
  }
  return text;
}

// Digits of other scripts count as well.
std::string with_ascii_digits(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto c = unicode::decode_valid(text, at);
    if (c.value >= 0x80 && is_decimal(c.value))
      out += static_cast<char>('0' + decimal_value(c.value));
    else
      out += text.substr(at, c.length);
    at += c.length;
  }
  return out;
}

// Underscores may stand between two digits.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const auto alnum = [](char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'); };
    if (i == 0 || i + 1 == text.size() || !alnum(text[i - 1]) || !alnum(text[i + 1])) return std::nullopt;
  }
  return out;
}

std::optional<std::int64_t> parse_int(std::string_view text, std::int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  text = stripped(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const auto prefixed = [&](char letter, int b) {
    if ((base != b && base != 0) || text.size() < 3 || text[0] != '0' || (text[1] | 0x20) != letter) return false;
    base = b;
    text.remove_prefix(text[2] == '_' ? 3 : 2);
    return true;
  };
  if (!prefixed('x', 16) && !prefixed('o', 8) && !prefixed('b', 2) && base == 0) {
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos) return std::nullopt;
    base = 10;
  }
  const auto digits = without_underscores(text);
  if (!digits || digits->empty()) return std::nullopt;
  std::uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits->data(), digits->data() + digits->size(), value, static_cast<int>(base));
  if (end != digits->data() + digits->size()) return std::nullopt;
  const std::uint64_t most = (std::uint64_t{1} << 63) - (negative ? 0 : 1);
  if (error != std::errc{} || value > most)
    raise(ErrorKind::overflow, "the integer '", text.substr(0, 40), "' has more than 64 bits");
  return negative ? static_cast<std::int64_t>(0 - value) : static_cast<std::int64_t>(value);
}

std::optional<double> parse_float(std::string_view text) {
  text = stripped(text);
  const auto digits = without_underscores(text);
  if (!digits || digits->empty()) return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest[0] == '-';
  if (rest[0] == '+' || rest[0] == '-') rest.remove_prefix(1);
  std::string lower(rest);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (lower == "inf" || lower == "infinity") return negative ? -HUGE_VAL : HUGE_VAL;
  if (lower == "nan") return std::nan("");
  if (rest.empty() || rest.find_first_not_of("0123456789.eE+-") != rest.npos || rest[0] == '+' || rest[0] == '-')
    return std::nullopt;
  const std::string text_copy(rest);
  char* end = nullptr;
  const double value = std::strtod(text_copy.c_str(), &end);
  if (end != text_copy.c_str() + text_copy.size()) return std::nullopt;
  return negative ? -value : value;
}

std::optional<double> to_float(const Value& v) {
  if (v.is_float()) return *v.get<double>();
  if (const auto i = v.integer()) return static_cast<double>(*i);
  if (const Str* s = v.str()) return parse_float(with_ascii_digits(s->bytes));
  require_defined(v);
  return std::nullopt;
}

Value truncated_to_int(double d) {
  if (std::isinf(d)) raise(ErrorKind::overflow, "cannot convert float infinity to integer");
  if (!(std::fabs(d) < 9223372036854775808.0)) raise(ErrorKind::overflow, "an integer has more than 64 bits");
  return static_cast<std::int64_t>(d);
}

Value filter_int(Runtime&, const Value& v, const Args& args) {
  const Bound b("int", args, {"default", "base"});
  if (const auto i = v.integer()) return *i;
  if (v.is_float() && !std::isnan(*v.get<double>())) {
    if (std::isinf(*v.get<double>())) raise(ErrorKind::overflow, "cannot convert float infinity to integer");
    return truncated_to_int(*v.get<double>());
  }
  if (const Str* s = v.str())
    if (const auto i = parse_int(with_ascii_digits(s->bytes), b.integer_or(1, 10))) return *i;
  const auto d = to_float(v);
  if (!d || !std::isfinite(*d)) return b.value_or(0, std::int64_t{0});
  return truncated_to_int(*d);
}

Value filter_float(Runtime&, const Value& v, const Args& args) {
  const Bound b("float", args, {"default"});
  const auto d = to_float(v);
  return d ? Value(*d) : b.value_or(0, 0.0);
}

Value filter_abs(Runtime&, const Value& v, const Args& args) {
  const Bound b("abs", args, {});
  if (v.is_float()) return std::fabs(*v.get<double>());
  if (!v.integer()) raise(ErrorKind::type, "bad operand type for abs(): '", type_name(v), "'");
  return *v.integer() < 0 ? negate(v) : Value(*v.integer());
}

// Rounds to the nearest decimal, halves of the exact value to even, as Python's round().
double round_decimal(double value, std::int64_t digits) {
  if (!std::isfinite(value) || digits > 323) return value;
  if (digits < -309) return std::copysign(0.0, value);
  if (digits < 0) {
    const double power = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(value / power) * power;
  }
  std::array<char, 700> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(digits), value);
  return std::strtod(buffer.data(), nullptr);
}

Value filter_round(Runtime&, const Value& v, const Args& args) {
  const Bound b("round", args, {"precision", "method"});
  const std::int64_t precision = b.integer_or(0, 0);
  const std::string method = b.has(1) && b[1].str() ? b[1].str()->bytes : "common";
  if (b.has(1) && method != "common" && method != "ceil" && method != "floor")
    raise(ErrorKind::runtime, "method must be common, ceil or floor");
  require_defined(v);
  if (!v.is_number()) raise(ErrorKind::type, "type ", type_name(v), " doesn't define __round__ method");
  if (method == "common") {
    if (v.is_float()) return round_decimal(*v.get<double>(), precision);
    if (precision >= 0) return *v.integer();
    if (precision < -18) return std::int64_t{0};
    std::int64_t power = 1;
    for (std::int64_t i = 0; i > precision; --i) power *= 10;
    const std::int64_t i = *v.integer(), rest = ((i % power) + power) % power, down = i - rest;
    const bool up = rest > power - rest || (rest == power - rest && (down / power) % 2 != 0);
    return up ? down + power : down;
  }
  const double value = v.is_float() ? *v.get<double>() : static_cast<double>(*v.integer());
  const double power = std::pow(10.0, static_cast<double>(precision));
  return (method == "ceil" ? std::ceil(value * power) : std::floor(value * power)) / power;
}

constexpr std::array<NamedFilter, 21> kFilters = {{
    {"abs", filter_abs},
    {"capitalize", filter_capitalize},
    {"center", filter_center},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"float", filter_float},
    {"forceescape", filter_forceescape},
    {"format", filter_format},
    {"indent", filter_indent},
    {"int", filter_int},
    {"lower", filter_lower},
    {"replace", filter_replace},
    {"round", filter_round},
    {"safe", filter_safe},
    {"string", filter_string},
    {"title", filter_title},
    {"tojson", filter_tojson},
    {"trim", filter_trim},
    {"truncate", filter_truncate},
    {"upper", filter_upper},
    {"wordcount", filter_wordcount},
}};

}  // namespace

std::span<const NamedFilter> text_filters() { return kFilters; }

}  // namespace cajal::jinja
