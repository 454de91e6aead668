#include "text/jinja/str_methods.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"
#include "text/jinja/case.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/unicode.h"

namespace cajal::jinja {
namespace {

std::size_t length_at(const Str& s, std::size_t at) { return unicode::decode_valid(s.bytes, at).length; }
char32_t char_at(const Str& s, std::size_t at) { return unicode::decode_valid(s.bytes, at).value; }

// The text that `first` .. `last` (code points, as Python's optional bounds of find) leave, as bytes; nullopt if empty
// in the way that even "" is not found.
struct Window {
  std::size_t begin, end;
  bool valid;
};
Window window(const Str& s, const Bound& args, std::size_t first) {
  const auto size = static_cast<std::int64_t>(s.length);
  const auto bound = [&](std::size_t i, std::int64_t absent) {
    if (!args.has(i) || args[i].is_none()) return absent;
    const std::int64_t v = require_integer(args[i]);
    return v < 0 ? std::max<std::int64_t>(v + size, 0) : v;
  };
  const std::int64_t from = bound(first, 0), to = std::min(bound(first + 1, size), size);
  if (from > size || from > to) return {0, 0, false};
  return {s.offset_of(static_cast<std::size_t>(from)), s.offset_of(static_cast<std::size_t>(to)), true};
}

Value find(Runtime& rt, const Value& self, const Args& args, bool from_right, bool fail) {
  const Bound b(from_right ? "rfind" : "find", args, {"sub", "start", "end"}, 1);
  const Str &s = *self.str(), &sub = require_str(b[0], "must be str");
  rt.meter.step(s.bytes.size() / 16);
  const Window w = window(s, b, 1);
  std::size_t at = std::string::npos;
  if (w.valid) {
    const std::string_view text = std::string_view(s.bytes).substr(w.begin, w.end - w.begin);
    at = from_right ? text.rfind(sub.bytes) : text.find(sub.bytes);
  }
  if (at == std::string::npos) {
    if (fail) raise(ErrorKind::value, "substring not found");
    return std::int64_t{-1};
  }
  if (s.is_ascii()) return Value::size(w.begin + at);
  return Value::size(make_str(s.bytes.substr(0, w.begin + at))->length);
}

Value starts_or_ends(Runtime& rt, const Value& self, const Args& args, bool starts) {
  const Bound b(starts ? "startswith" : "endswith", args, {"prefix", "start", "end"}, 1);
  const Str& s = *self.str();
  const Window w = window(s, b, 1);
  const std::string_view text = std::string_view(s.bytes).substr(w.begin, w.valid ? w.end - w.begin : 0);
  const auto matches = [&](const Value& affix) {
    if (!affix.str()) {
      require_defined(affix);
      raise(ErrorKind::type, starts ? "startswith" : "endswith", " first arg must be str or a tuple of str, not ",
            type_name(affix));
    }
    rt.meter.step();
    return w.valid && (starts ? text.starts_with(affix.str()->bytes) : text.ends_with(affix.str()->bytes));
  };
  if (const Seq* tuple = b[0].seq(); tuple && tuple->kind == SeqKind::tuple)
    return std::any_of(tuple->items.begin(), tuple->items.end(), matches);
  return matches(b[0]);
}

// Pieces between runs of white space.
std::vector<Value> split_spaces(Runtime& rt, const StrRef& text, std::int64_t most, bool from_right) {
  std::vector<Value> parts;
  const Str& s = *text;
  const auto space_before = [&](std::size_t end) { return is_space(char_at(s, unicode::start_of_last(s.bytes, end))); };
  std::size_t begin = 0, end = s.bytes.size();
  const auto skip_left = [&] {
    while (begin < end && is_space(char_at(s, begin))) begin += length_at(s, begin);
  };
  const auto skip_right = [&] {
    while (end > begin && space_before(end)) end = unicode::start_of_last(s.bytes, end);
  };
  while (true) {
    from_right ? skip_right() : skip_left();
    if (begin == end) break;
    std::size_t a = begin, z = end;
    if (most == 0) {  // the rest, with the spaces at its far end
      parts.emplace_back(substring(rt.meter, text, begin, end));
      break;
    }
    if (from_right) {
      a = end;
      while (a > begin && !space_before(a)) a = unicode::start_of_last(s.bytes, a);
      end = a;
    } else {
      z = begin;
      while (z < end && !is_space(char_at(s, z))) z += length_at(s, z);
      begin = z;
    }
    rt.meter.produce(sizeof(Value) + sizeof(Str));
    parts.emplace_back(substring(rt.meter, text, a, z));
    if (most > 0) --most;
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

Value split(Runtime& rt, const Value& self, const Args& args, bool from_right) {
  const Bound b(from_right ? "rsplit" : "split", args, {"sep", "maxsplit"});
  const StrRef& text = self.str_ref();
  std::int64_t most = b.integer_or(1, -1);
  rt.meter.step(text->bytes.size() / 16);
  if (!b.has(0) || b[0].is_none()) return make_list(rt.meter, split_spaces(rt, text, most, from_right));
  const std::string& separator = require_str(b[0], "must be str or None").bytes;
  if (separator.empty()) raise(ErrorKind::value, "empty separator");
  std::vector<Value> parts;
  const auto add = [&](std::size_t begin, std::size_t end) {
    rt.meter.produce(sizeof(Value) + sizeof(Str));
    parts.emplace_back(substring(rt.meter, text, begin, end));
  };
  if (from_right) {
    std::size_t end = text->bytes.size();
    while (most != 0 && end >= separator.size()) {
      const std::size_t at = text->bytes.rfind(separator, end - separator.size());
      if (at == std::string::npos) break;
      add(at + separator.size(), end);
      end = at;
      --most;
    }
    add(0, end);
    std::reverse(parts.begin(), parts.end());
  } else {
    std::size_t begin = 0;
    for (; most != 0; --most) {
      const std::size_t at = text->bytes.find(separator, begin);
      if (at == std::string::npos) break;
      add(begin, at);
      begin = at + separator.size();
    }
    add(begin, text->bytes.size());
  }
  return make_list(rt.meter, std::move(parts));
}

Value partition(Runtime& rt, const Value& self, const Args& args, bool from_right) {
  const Bound b(from_right ? "rpartition" : "partition", args, {"sep"}, 1);
  const StrRef& text = self.str_ref();
  const std::string& separator = require_str(b[0], "must be str").bytes;
  if (separator.empty()) raise(ErrorKind::value, "empty separator");
  const std::size_t at = from_right ? text->bytes.rfind(separator) : text->bytes.find(separator);
  const Value none = Value::text("");
  if (at == std::string::npos) {
    std::vector<Value> parts{none, none, none};
    parts[from_right ? 2 : 0] = self;
    return make_tuple(rt.meter, std::move(parts));
  }
  const auto part = [&](std::size_t begin, std::size_t end) { return Value(substring(rt.meter, text, begin, end)); };
  return make_tuple(rt.meter,
                    {part(0, at), part(at, at + separator.size()), part(at + separator.size(), text->bytes.size())});
}

Value count(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("count", args, {"sub", "start", "end"}, 1);
  const Str &s = *self.str(), &sub = require_str(b[0], "must be str");
  rt.meter.step(s.bytes.size() / 16);
  const Window w = window(s, b, 1);
  if (!w.valid) return std::int64_t{0};
  const std::string_view text = std::string_view(s.bytes).substr(w.begin, w.end - w.begin);
  if (sub.bytes.empty()) return Value::size(make_str(std::string(text))->length + 1);
  std::int64_t n = 0;
  for (std::size_t at = text.find(sub.bytes); at != text.npos; at = text.find(sub.bytes, at + sub.bytes.size())) ++n;
  return n;
}

Value strip_method(Runtime& rt, const Value& self, const Args& args, bool left, bool right) {
  const Bound b("strip", args, {"chars"});
  const Str* chars = b.has(0) && !b[0].is_none() ? &require_str(b[0], "strip arg must be None or str") : nullptr;
  return strip(rt, self.str_ref(), chars, left, right);
}

Value title(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("title", args, {});
  bool after_cased = false;
  return map_characters(rt, self.str_ref(), [&](std::string& out, char32_t c) {
    after_cased ? append_lower(out, c) : append_title(out, c);
    after_cased = is_cased(c);
  });
}

Value swapcase(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("swapcase", args, {});
  return map_characters(rt, self.str_ref(), [](std::string& out, char32_t c) {
    is_upper(c) ? append_lower(out, c) : append_upper(out, c);
  });
}

Value zfill(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("zfill", args, {"width"}, 1);
  const Str& s = *self.str();
  const std::int64_t zeros = require_integer(b[0]) - static_cast<std::int64_t>(s.length);
  if (zeros <= 0) return self;
  rt.meter.check_string(static_cast<std::uint64_t>(zeros));
  const std::size_t sign = !s.bytes.empty() && (s.bytes[0] == '+' || s.bytes[0] == '-') ? 1 : 0;
  StrBuilder out(rt.meter);
  out.add(s, 0, sign);
  out.add(std::string(static_cast<std::size_t>(zeros), '0'));
  out.add(s, sign, s.bytes.size());
  return out.finish();
}

template <char align>
Value justify(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("justify", args, {"width", "fillchar"}, 1);
  const Value fill = b.value_or(1, Value::text(" "));
  const Str& f = require_str(fill, "the fill character must be a unicode character");
  if (f.length != 1) raise(ErrorKind::type, "The fill character must be exactly one character long");
  return pad(rt, self.str_ref(), require_integer(b[0]), f, align);
}

Value expandtabs(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("expandtabs", args, {"tabsize"});
  const std::int64_t size = b.integer_or(0, 8);
  const Str& s = *self.str();
  StrBuilder out(rt.meter);
  std::int64_t column = 0;
  for (std::size_t at = 0; at < s.bytes.size(); at += length_at(s, at)) {
    if (s.bytes[at] == '\t') {
      const std::int64_t spaces = size > 0 ? size - column % size : 0;
      rt.meter.check_string(static_cast<std::uint64_t>(spaces));
      out.add(std::string(static_cast<std::size_t>(spaces), ' '), s.is_user(at));
      column += spaces;
    } else {
      out.add(s, at, at + length_at(s, at));
      column = s.bytes[at] == '\n' || s.bytes[at] == '\r' ? 0 : column + 1;
    }
  }
  return out.finish();
}

template <bool (*predicate)(char32_t)>
Value all_are(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("predicate", args, {});
  rt.meter.step(self.str()->bytes.size() / 4);
  return all_characters(*self.str(), predicate);
}

bool is_alnum(char32_t c) { return is_alpha(c) || is_numeric(c); }
bool is_ascii_char(char32_t c) { return c < 0x80; }

bool is_title_text(const Str& s) {
  bool after_cased = false, found = false;
  for (std::size_t at = 0; at < s.bytes.size(); at += length_at(s, at)) {
    const char32_t c = char_at(s, at);
    if (is_upper(c) || is_title(c)) {
      if (after_cased) return false;
      after_cased = found = true;
    } else if (is_lower(c)) {
      if (!after_cased) return false;
      found = true;
    } else {
      after_cased = false;
    }
  }
  return found;
}

bool is_identifier(const Str& s) {
  return !s.bytes.empty() && is_identifier_start(char_at(s, 0)) && all_characters(s, is_identifier_part);
}

Value replace_method(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("replace", args, {"old", "new", "count"}, 2);
  return replace(rt, self.str_ref(), require_str(b[0], "replace() argument 1 must be str"),
                 require_str(b[1], "replace() argument 2 must be str"), b.integer_or(2, -1));
}

Value join_method(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("join", args, {"iterable"}, 1);
  std::vector<StrRef> parts;
  std::size_t i = 0;
  for (const Value& item : Items(rt.meter, b[0])) {
    if (!item.str())
      raise(ErrorKind::type, "sequence item ", i, ": expected str instance, ", type_name(item), " found");
    parts.push_back(item.str_ref());
    ++i;
  }
  return join(rt, *self.str(), parts);
}

Value remove_affix(Runtime& rt, const Value& self, const Args& args, bool prefix) {
  const Bound b(prefix ? "removeprefix" : "removesuffix", args, {"affix"}, 1);
  const std::string &text = self.str()->bytes, &affix = require_str(b[0], "argument must be str").bytes;
  if (affix.empty() || !(prefix ? text.starts_with(affix) : text.ends_with(affix))) return self;
  return prefix ? substring(rt.meter, self.str_ref(), affix.size(), text.size())
                : substring(rt.meter, self.str_ref(), 0, text.size() - affix.size());
}

Value splitlines(Runtime& rt, const Value& self, const Args& args) {
  const Bound b("splitlines", args, {"keepends"});
  return make_list(rt.meter, split_lines(rt, self.str_ref(), b.truth_or(0, false)));
}

#define CAJAL_METHOD(body) [](Runtime& rt, const Value& self, const Args& args) -> Value { return body; }
constexpr auto kNone = [](std::string_view name, const Args& args) { const Bound none(name, args, {}); };

constexpr std::array kMethods = {
    NamedMethod{"capitalize", CAJAL_METHOD((kNone("capitalize", args), capitalize(rt, self.str_ref())))},
    NamedMethod{"center", justify<'^'>},
    NamedMethod{"count", count},
    NamedMethod{"endswith", CAJAL_METHOD(starts_or_ends(rt, self, args, false))},
    NamedMethod{"expandtabs", expandtabs},
    NamedMethod{"find", CAJAL_METHOD(find(rt, self, args, false, false))},
    NamedMethod{"format", str_format},
    NamedMethod{"index", CAJAL_METHOD(find(rt, self, args, false, true))},
    NamedMethod{"isalnum", all_are<is_alnum>},
    NamedMethod{"isalpha", all_are<is_alpha>},
    NamedMethod{"isascii",
                CAJAL_METHOD((kNone("isascii", args),
                              self.str()->bytes.empty() || all_are<is_ascii_char>(rt, self, args).is_true()))},
    NamedMethod{"isdecimal", all_are<is_decimal>},
    NamedMethod{"isdigit", all_are<is_decimal>},
    NamedMethod{"isidentifier", CAJAL_METHOD((kNone("isidentifier", args), (void)rt, is_identifier(*self.str())))},
    NamedMethod{"islower", CAJAL_METHOD((kNone("islower", args), (void)rt, has_case(*self.str(), false)))},
    NamedMethod{"isnumeric", all_are<is_numeric>},
    NamedMethod{"isprintable",
                CAJAL_METHOD((kNone("isprintable", args),
                              self.str()->bytes.empty() || all_are<is_printable>(rt, self, args).is_true()))},
    NamedMethod{"isspace", all_are<is_space>},
    NamedMethod{"istitle", CAJAL_METHOD((kNone("istitle", args), (void)rt, is_title_text(*self.str())))},
    NamedMethod{"isupper", CAJAL_METHOD((kNone("isupper", args), (void)rt, has_case(*self.str(), true)))},
    NamedMethod{"join", join_method},
    NamedMethod{"ljust", justify<'<'>},
    NamedMethod{"lower", CAJAL_METHOD((kNone("lower", args), lower(rt, self.str_ref())))},
    NamedMethod{"lstrip", CAJAL_METHOD(strip_method(rt, self, args, true, false))},
    NamedMethod{"partition", CAJAL_METHOD(partition(rt, self, args, false))},
    NamedMethod{"removeprefix", CAJAL_METHOD(remove_affix(rt, self, args, true))},
    NamedMethod{"removesuffix", CAJAL_METHOD(remove_affix(rt, self, args, false))},
    NamedMethod{"replace", replace_method},
    NamedMethod{"rfind", CAJAL_METHOD(find(rt, self, args, true, false))},
    NamedMethod{"rindex", CAJAL_METHOD(find(rt, self, args, true, true))},
    NamedMethod{"rjust", justify<'>'>},
    NamedMethod{"rpartition", CAJAL_METHOD(partition(rt, self, args, true))},
    NamedMethod{"rsplit", CAJAL_METHOD(split(rt, self, args, true))},
    NamedMethod{"rstrip", CAJAL_METHOD(strip_method(rt, self, args, false, true))},
    NamedMethod{"split", CAJAL_METHOD(split(rt, self, args, false))},
    NamedMethod{"splitlines", splitlines},
    NamedMethod{"startswith", CAJAL_METHOD(starts_or_ends(rt, self, args, true))},
    NamedMethod{"strip", CAJAL_METHOD(strip_method(rt, self, args, true, true))},
    NamedMethod{"swapcase", swapcase},
    NamedMethod{"title", title},
    NamedMethod{"upper", CAJAL_METHOD((kNone("upper", args), upper(rt, self.str_ref())))},
    NamedMethod{"zfill", zfill},
};
#undef CAJAL_METHOD

}  // namespace

std::span<const NamedMethod> str_methods() { return kMethods; }

const Str& require_str(const Value& value, std::string_view what) {
  if (!value.str()) raise(ErrorKind::type, what, ", not ", type_name(value));
  return *value.str();
}

StrRef map_characters(Runtime& rt, const StrRef& text, const std::function<void(std::string&, char32_t)>& map) {
  StrBuilder out(rt.meter);
  std::string mapped;
  bool user = false;
  // Stretches of one origin are added at once.
  for (std::size_t at = 0; at < text->bytes.size(); at += length_at(*text, at)) {
    if (const bool now = !text->user.empty() && text->is_user(at); now != user) {
      out.add(mapped, user);
      mapped.clear();
      user = now;
    }
    map(mapped, char_at(*text, at));
  }
  out.add(mapped, user);
  return out.finish(text->markup);
}

StrRef upper(Runtime& rt, const StrRef& text) { return map_characters(rt, text, append_upper); }

StrRef lower(Runtime& rt, const StrRef& text) {
  // A capital sigma at the end of a word becomes its final form.
  std::size_t at = 0;
  bool cased_before = false;
  const Str& s = *text;
  return map_characters(rt, text, [&](std::string& out, char32_t c) {
    at += length_at(s, at);
    const bool ends = at >= s.bytes.size() || !is_cased(char_at(s, at));
    c == 0x3a3 && cased_before&& ends ? append_utf8(out, 0x3c2) : append_lower(out, c);
    cased_before = is_cased(c);
  });
}

StrRef capitalize(Runtime& rt, const StrRef& text) {
  bool first = true;
  return map_characters(rt, text, [&](std::string& out, char32_t c) {
    std::exchange(first, false) ? append_title(out, c) : append_lower(out, c);
  });
}

StrRef strip(Runtime& rt, const StrRef& text, const Str* chars, bool left, bool right) {
  const Str& s = *text;
  std::size_t begin = 0, end = s.bytes.size();
  const auto goes = [&](std::size_t at) {
    rt.meter.step(chars ? chars->bytes.size() / 32 : 0);
    if (!chars) return is_space(char_at(s, at));
    const std::string_view c(s.bytes.data() + at, length_at(s, at));
    return chars->bytes.find(c) != std::string::npos;
  };
  if (left)
    while (begin < end && goes(begin)) begin += length_at(s, begin);
  if (right)
    while (end > begin) {
      const std::size_t last = unicode::start_of_last(s.bytes, end);
      if (!goes(last)) break;
      end = last;
    }
  return substring(rt.meter, text, begin, end);
}

StrRef replace(Runtime& rt, const StrRef& text, const Str& from, const Str& to, std::int64_t count) {
  const Str& s = *text;
  StrBuilder out(rt.meter);
  rt.meter.step(s.bytes.size() / 16);
  std::size_t done = 0;
  if (from.bytes.empty()) {  // between all characters, and at both ends
    for (std::size_t at = 0; count != 0 && at <= s.bytes.size(); --count) {
      out.add(to);
      const std::size_t next = at < s.bytes.size() ? at + length_at(s, at) : at + 1;
      done = std::min(next, s.bytes.size());
      out.add(s, at, done);
      at = next;
    }
  } else {
    for (; count != 0; --count) {
      const std::size_t at = s.bytes.find(from.bytes, done);
      if (at == std::string::npos) break;
      rt.meter.step();
      out.add(s, done, at);
      out.add(to);
      done = at + from.bytes.size();
    }
    if (done == 0) return text;
  }
  out.add(s, done, s.bytes.size());
  return out.finish(text->markup);
}

StrRef join(Runtime& rt, const Str& between, const std::vector<StrRef>& parts) {
  StrBuilder out(rt.meter);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i) out.add(between);
    out.add(*parts[i]);
  }
  return out.finish();
}

std::vector<Value> split_lines(Runtime& rt, const StrRef& text, bool keep_ends) {
  const Str& s = *text;
  std::vector<Value> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < s.bytes.size();) {
    const char32_t c = char_at(s, at);
    std::size_t next = at + length_at(s, at);
    const bool ends = (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (ends) {
      if (c == '\r' && next < s.bytes.size() && s.bytes[next] == '\n') ++next;
      rt.meter.produce(sizeof(Value) + sizeof(Str));
      lines.emplace_back(substring(rt.meter, text, begin, keep_ends ? next : at));
      begin = next;
    }
    at = next;
  }
  if (begin < s.bytes.size()) lines.emplace_back(substring(rt.meter, text, begin, s.bytes.size()));
  return lines;
}

bool all_characters(const Str& text, bool (*predicate)(char32_t)) {
  for (std::size_t at = 0; at < text.bytes.size(); at += length_at(text, at))
    if (!predicate(char_at(text, at))) return false;
  return !text.bytes.empty();
}

bool has_case(const Str& text, bool upper) {
  bool found = false;
  for (std::size_t at = 0; at < text.bytes.size(); at += length_at(text, at)) {
    const char32_t c = char_at(text, at);
    if ((upper ? is_lower(c) : is_upper(c)) || is_title(c)) return false;
    found = found || (upper ? is_upper(c) : is_lower(c));
  }
  return found;
}

StrRef pad(Runtime& rt, const StrRef& text, std::int64_t width, const Str& fill, char align) {
  const std::int64_t missing = width - static_cast<std::int64_t>(text->length);
  if (missing <= 0) return text;
  rt.meter.check_string(static_cast<std::uint64_t>(missing));
  std::int64_t left = 0;
  if (align == '>') left = missing;
  if (align == '^') left = missing / 2 + (missing & width & 1);  // as str.center shares what is uneven
  StrBuilder out(rt.meter);
  for (std::int64_t i = 0; i < left; ++i) out.add(fill);
  out.add(*text);
  for (std::int64_t i = left; i < missing; ++i) out.add(fill);
  return out.finish(text->markup);
}

}  // namespace cajal::jinja
