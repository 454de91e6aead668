// Python's two ways to format: "%s" % x and "{}".format(x).
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/utf8.h"
#include "text/jinja/operators.h"
#include "text/jinja/str_methods.h"
#include "text/unicode.h"

namespace cajal::jinja {
namespace {

constexpr std::int64_t kMaxPrecision = 1000;

std::string float_digits(double value, char type, std::int64_t precision, bool alternate) {
  if (precision < 0) precision = 6;
  if (precision > kMaxPrecision) raise(ErrorKind::limit, "a precision of more than ", kMaxPrecision, " digits");
  const char lower = static_cast<char>(type | 0x20);
  if (!std::isfinite(value)) {
    std::string text = std::isnan(value) ? "nan" : "inf";
    if (type < 'a')
      for (char& c : text) c = static_cast<char>(c - 32);
    return text;
  }
  const std::string form =
      std::string(alternate ? "%#.*" : "%.*") + (type < 'a' ? static_cast<char>(lower - 32) : lower);
  const int size = std::snprintf(nullptr, 0, form.c_str(), static_cast<int>(precision), value);
  std::string text(static_cast<std::size_t>(size) + 1, '\0');
  std::snprintf(text.data(), text.size(), form.c_str(), static_cast<int>(precision), value);
  text.pop_back();
  return text;
}

std::string integer_digits(std::uint64_t value, char type, bool alternate) {
  std::array<char, 72> buffer{};
  const char lower = static_cast<char>(type | 0x20);
  const int base = lower == 'x' ? 16 : lower == 'o' ? 8 : lower == 'b' ? 2 : 10;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, base).ptr;
  std::string text(buffer.data(), end);
  if (type == 'X')
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return c >= 'a' ? static_cast<char>(c - 32) : c; });
  if (alternate && base != 10) text = std::string("0") + type + text;
  return text;
}

void group_thousands(std::string& digits, char separator) {
  const std::size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  for (std::size_t at = whole; at > 3;) {
    at -= 3;
    digits.insert(at, 1, separator);
  }
}

std::uint64_t magnitude(std::int64_t i) {
  return i < 0 ? 0 - static_cast<std::uint64_t>(i) : static_cast<std::uint64_t>(i);
}

// `body` with sign and padding.
void append_padded(Runtime& rt, StrBuilder& out, const StrRef& body, std::string sign, const FormatSpec& spec,
                   char align) {
  const std::int64_t width = static_cast<std::int64_t>(body->length + sign.size());
  const std::int64_t missing = std::max<std::int64_t>(spec.width - width, 0);
  rt.meter.check_string(static_cast<std::uint64_t>(missing));
  if (spec.align) align = spec.align;
  const std::int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  const auto fill = [&](std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) out.add(spec.fill);
  };
  if (align == '=') out.add(std::exchange(sign, ""));
  fill(left);
  out.add(sign);
  out.add(*body);
  fill(missing - left);
}

std::string sign_of(bool negative, char sign) { return negative ? "-" : sign == '+' ? "+" : sign == ' ' ? " " : ""; }

void append_integer(Runtime& rt, StrBuilder& out, std::int64_t value, const FormatSpec& spec) {
  if (spec.type == 'c') {
    if (value < 0 || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
      raise(ErrorKind::overflow, "%c arg not in range(0x110000)");
    std::string text;
    append_utf8(text, static_cast<char32_t>(value));
    return append_padded(rt, out, make_str(text, true), "", spec, '<');
  }
  const char type = spec.type && spec.type != 'n' ? spec.type : 'd';
  std::string digits = integer_digits(magnitude(value), type, false);
  if (spec.comma || spec.underscore) group_thousands(digits, spec.comma ? ',' : '_');
  std::string sign = sign_of(value < 0, spec.sign);
  if (spec.alternate && type != 'd') sign += std::string("0") + type;
  append_padded(rt, out, make_str(digits), sign, spec, '>');
}

void append_float(Runtime& rt, StrBuilder& out, double value, const FormatSpec& spec) {
  std::string digits;
  const double size = std::fabs(value);
  if (spec.type == '%')
    digits = float_digits(size * 100, 'f', spec.precision, spec.alternate) + "%";
  else if (spec.type)
    digits = float_digits(size, spec.type == 'n' ? 'g' : spec.type,
                          spec.precision == 0 && (spec.type | 0x20) == 'g' ? 1 : spec.precision, spec.alternate);
  else if (spec.precision < 0)
    digits = float_repr(size);
  else {
    digits = float_digits(size, 'g', std::max<std::int64_t>(spec.precision, 1), spec.alternate);
    if (digits.find_first_of(".en") == std::string::npos) digits += ".0";
  }
  if (spec.comma || spec.underscore) group_thousands(digits, spec.comma ? ',' : '_');
  append_padded(rt, out, make_str(digits), sign_of(std::signbit(value) && !std::isnan(value), spec.sign), spec, '>');
}

StrRef truncated(Runtime& rt, const StrRef& text, std::int64_t precision) {
  if (precision < 0 || static_cast<std::uint64_t>(precision) >= text->length) return text;
  return substring(rt.meter, text, 0, text->offset_of(static_cast<std::size_t>(precision)));
}

// Reads decimal digits; a number that is too large is a Failure.
std::int64_t read_number(std::string_view text, std::size_t& at) {
  std::int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = value * 10 + (text[at] - '0');
    if (value > (std::int64_t{1} << 31)) raise(ErrorKind::value, "Too many decimal digits in format string");
  }
  return value;
}

// --- "%" ---

class PercentFormat {
 public:
  PercentFormat(Runtime& rt, const Str& format, const Value& values)
      : rt_(rt), format_(format), text_(format.bytes), values_(values), out_(rt.meter) {}

  StrRef run() {
    const Seq* seq = values_.seq();
    tuple_ = seq && seq->kind == SeqKind::tuple ? seq : nullptr;
    while (at_ < text_.size()) {
      const std::size_t percent = std::min(text_.find('%', at_), text_.size());
      out_.add(format_, at_, percent);
      at_ = percent;
      if (at_ < text_.size()) directive();
    }
    // A mapping may have more than is used, as may anything that has elements.
    const bool mapping = values_.dict() || (seq && !tuple_) || values_.is_undefined();
    if (tuple_ ? used_ < tuple_->items.size() : used_ == 0 && !mapping)
      raise(ErrorKind::type, "not all arguments converted during string formatting");
    return out_.finish(format_.markup);
  }

 private:
  Value take() {
    if (key_) return *std::exchange(key_, std::nullopt);
    if (tuple_) {
      if (used_ >= tuple_->items.size()) raise(ErrorKind::type, "not enough arguments for format string");
      return tuple_->items[used_++];
    }
    if (used_++ > 0) raise(ErrorKind::type, "not enough arguments for format string");
    return values_;
  }
  std::int64_t number_or_star() {
    if (at_ < text_.size() && text_[at_] == '*') {
      ++at_;
      const Value v = take();
      if (!v.integer()) raise(ErrorKind::type, "* wants int");
      return *v.integer();
    }
    return read_number(text_, at_);
  }
  char current() const {
    if (at_ >= text_.size()) raise(ErrorKind::value, "incomplete format");
    return text_[at_];
  }

  void directive() {
    ++at_;
    if (current() == '(') {
      int depth = 1;
      const std::size_t begin = at_ + 1;
      for (++at_; depth > 0; ++at_) {
        if (at_ >= text_.size()) raise(ErrorKind::value, "incomplete format key");
        depth += text_[at_] == '(' ? 1 : text_[at_] == ')' ? -1 : 0;
      }
      if (!values_.dict()) raise(ErrorKind::type, "format requires a mapping");
      const std::string name(text_.substr(begin, at_ - 1 - begin));
      const Value* value = values_.dict()->find(name);
      if (!value) raise(ErrorKind::lookup, "'", name, "'");
      key_ = *value;
      ++used_;
    }
    FormatSpec spec;
    bool left = false, zero = false;
    for (;; ++at_) {
      const char c = current();
      if (c == '-')
        left = true;
      else if (c == '+')
        spec.sign = '+';
      else if (c == ' ')
        spec.sign = spec.sign ? spec.sign : ' ';
      else if (c == '#')
        spec.alternate = true;
      else if (c == '0')
        zero = true;
      else
        break;
    }
    spec.width = number_or_star();
    if (spec.width < 0) left = true, spec.width = -spec.width;
    if (current() == '.') {
      ++at_;
      spec.precision = std::max<std::int64_t>(number_or_star(), 0);
    }
    while (current() == 'l' || current() == 'h' || current() == 'L') ++at_;
    spec.type = current();
    ++at_;
    if (spec.type == '%') return out_.add("%");
    spec.align = left ? '<' : '>';
    convert(spec, zero && !left);
  }

  void convert(FormatSpec spec, bool zero) {
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a': {
        const Value v = take();
        StrRef text;
        if (spec.type == 's') {
          text = format_.markup ? escape_html(rt_, v) : to_str(rt_, v);
        } else {
          StrBuilder repr(rt_.meter);
          append_repr(rt_, repr, v);
          text = repr.finish();
        }
        return append_padded(rt_, out_, truncated(rt_, text, spec.precision), "", spec, '>');
      }
      case 'c': {
        const Value v = take();
        if (v.str() && v.str()->length == 1) return append_padded(rt_, out_, v.str_ref(), "", spec, '>');
        if (!v.integer()) raise(ErrorKind::type, "%c requires int or char");
        return append_integer(rt_, out_, *v.integer(), spec);
      }
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X': return integer(spec, zero);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        const Value v = take();
        if (!v.is_number()) raise(ErrorKind::type, "must be real number, not ", type_name(v));
        if (zero) spec.fill = "0", spec.align = '=';
        if ((spec.type | 0x20) == 'g' && spec.precision == 0) spec.precision = 1;
        return append_float(rt_, out_, v.is_float() ? *v.get<double>() : static_cast<double>(*v.integer()), spec);
      }
      default: raise(ErrorKind::value, "unsupported format character '", std::string(1, spec.type), "'");
    }
  }

  void integer(FormatSpec spec, bool zero) {
    const Value v = take();
    const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    require_defined(v);
    if (!v.is_number() || (v.is_float() && !decimal))
      raise(ErrorKind::type, "%", std::string(1, spec.type), " format: ", decimal ? "a real number" : "an integer",
            " is required, not ", type_name(v));
    std::int64_t value = 0;
    if (v.is_float()) {
      const double d = std::trunc(*v.get<double>());
      if (!(std::fabs(d) < 9223372036854775808.0))
        raise(std::isnan(d) ? ErrorKind::value : ErrorKind::overflow, "cannot convert float to integer");
      value = static_cast<std::int64_t>(d);
    } else {
      value = *v.integer();
    }
    std::string digits = integer_digits(magnitude(value), decimal ? 'd' : spec.type, false);
    if (spec.precision > kMaxPrecision) raise(ErrorKind::limit, "a precision of more than ", kMaxPrecision, " digits");
    if (static_cast<std::int64_t>(digits.size()) < spec.precision)
      digits.insert(0, static_cast<std::size_t>(spec.precision) - digits.size(), '0');
    std::string sign = sign_of(value < 0, spec.sign);
    if (spec.alternate && !decimal) sign += std::string("0") + spec.type;
    if (zero) spec.fill = "0", spec.align = '=';
    append_padded(rt_, out_, make_str(digits), sign, spec, '>');
  }

  Runtime& rt_;
  const Str& format_;
  std::string_view text_;
  const Value& values_;
  StrBuilder out_;
  const Seq* tuple_ = nullptr;
  std::size_t used_ = 0, at_ = 0;
  std::optional<Value> key_;
};

// --- str.format ---

FormatSpec parse_spec(std::string_view text) {
  FormatSpec spec;
  std::size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const std::size_t first = text.empty() ? 0 : unicode::decode_valid(text, 0).length;
  if (first && first < text.size() && is_align(text[first])) {
    spec.fill = std::string(text.substr(0, first));
    spec.align = text[first];
    at = first + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[0];
    at = 1;
  }
  const auto peek = [&](char c) { return at < text.size() && text[at] == c; };
  if (peek('+') || peek('-') || peek(' ')) spec.sign = text[at++];
  if (peek('#')) spec.alternate = true, ++at;
  if (peek('0')) {
    if (!spec.align) spec.fill = "0", spec.align = '=';
    ++at;
  }
  spec.width = read_number(text, at);
  if (peek(',')) spec.comma = true, ++at;
  if (peek('_')) spec.underscore = true, ++at;
  if (peek('.')) {
    const std::size_t digits = ++at;
    spec.precision = read_number(text, at);
    if (at == digits) raise(ErrorKind::value, "Format specifier missing precision");
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) raise(ErrorKind::value, "Invalid format specifier '", text, "'");
  return spec;
}

class StrFormat {
 public:
  StrFormat(Runtime& rt, const Args& args) : rt_(rt), args_(args) {}

  void run(StrBuilder& out, const Str& format, int depth) {
    if (depth > 2) raise(ErrorKind::value, "Max string recursion exceeded");
    const std::string& text = format.bytes;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t brace = std::min(text.find_first_of("{}", at), text.size());
      out.add(format, at, brace);
      if (brace == text.size()) return;
      if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
        out.add(format, brace, brace + 1);
        at = brace + 2;
        continue;
      }
      if (text[brace] == '}') raise(ErrorKind::value, "Single '}' encountered in format string");
      std::size_t end = brace + 1;
      for (int open = 1; open > 0; ++end) {
        if (end >= text.size())
          raise(ErrorKind::value, brace + 1 == text.size() ? "Single '{' encountered in format string"
                                                           : "expected '}' before end of string");
        open += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
      }
      field(out, std::string_view(text).substr(brace + 1, end - brace - 2), depth);
      at = end;
    }
  }

 private:
  void field(StrBuilder& out, std::string_view text, int depth) {
    const std::size_t name_end = std::min(text.find_first_of("!:"), text.size());
    Value value = lookup(text.substr(0, name_end));
    std::string_view rest = text.substr(name_end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2) raise(ErrorKind::value, "end of string while looking for conversion specifier");
      const char conversion = rest[1];
      if (conversion != 's' && conversion != 'r' && conversion != 'a')
        raise(ErrorKind::value, "Unknown conversion specifier '", std::string(1, conversion), "'");
      StrBuilder converted(rt_.meter);
      conversion == 's' ? append_str(rt_, converted, value) : append_repr(rt_, converted, value);
      value = converted.finish();
      rest = rest.substr(2);
      if (!rest.empty() && rest[0] != ':') raise(ErrorKind::value, "expected ':' after conversion specifier");
    }
    std::string spec(rest.empty() ? rest : rest.substr(1));
    if (spec.find_first_of("{}") != std::string::npos) {
      StrBuilder inner(rt_.meter);
      run(inner, *make_str(spec), depth + 1);
      spec = inner.take().bytes;
    }
    append_formatted(rt_, out, value, parse_spec(spec));
  }

  Value lookup(std::string_view name) {
    std::size_t at = std::min(name.find_first_of(".["), name.size());
    const std::string_view first = name.substr(0, at);
    Value value;
    if (first.empty() || first.find_first_not_of("0123456789") == first.npos) {
      std::size_t position = 0;
      if (first.empty()) {
        if (numbered_)
          raise(ErrorKind::value, "cannot switch from manual field specification to automatic field numbering");
        automatic_ = true;
        position = next_++;
      } else {
        if (automatic_)
          raise(ErrorKind::value, "cannot switch from automatic field numbering to manual field specification");
        numbered_ = true;
        std::size_t i = 0;
        position = static_cast<std::size_t>(read_number(first, i));
      }
      if (position >= args_.positional.size())
        raise(ErrorKind::lookup, "Replacement index ", position, " out of range for positional args tuple");
      value = args_.positional[position];
    } else {
      const Value* found = args_.find(first);
      if (!found) raise(ErrorKind::lookup, "'", first, "'");
      value = *found;
    }
    while (at < name.size()) {
      if (name[at] == '.') {
        const std::size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        value = get_attribute(rt_, value, name.substr(at + 1, end - at - 1));
        at = end;
      } else {
        const std::size_t end = name.find(']', at);
        if (end == name.npos) raise(ErrorKind::value, "Missing ']' in format string");
        const std::string_view key = name.substr(at + 1, end - at - 1);
        std::size_t i = 0;
        const bool number = !key.empty() && key.find_first_not_of("0123456789") == key.npos;
        value = get_item(rt_, value, number ? Value(read_number(key, i)) : Value::text(key));
        at = end + 1;
        if (at < name.size() && name[at] != '.' && name[at] != '[')
          raise(ErrorKind::value, "Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  Runtime& rt_;
  const Args& args_;
  std::size_t next_ = 0;
  bool automatic_ = false, numbered_ = false;
};

}  // namespace

void append_formatted(Runtime& rt, StrBuilder& out, const Value& value, const FormatSpec& spec) {
  const bool plain = !spec.type && !spec.width && !spec.align && !spec.sign && spec.precision < 0 && !spec.comma &&
                     !spec.underscore && !spec.alternate;
  if (plain) return append_str(rt, out, value);
  constexpr std::string_view kInteger = "bcdoxXn", kFloat = "eEfFgGn%";
  const auto unknown = [&]() {
    raise(ErrorKind::value, "Unknown format code '", std::string(1, spec.type), "' for object of type '",
          type_name(value), "'");
  };
  if (value.str()) {
    if (spec.type && spec.type != 's') unknown();
    if (spec.sign) raise(ErrorKind::value, "Sign not allowed in string format specifier");
    if (spec.align == '=' && spec.fill != "0")
      raise(ErrorKind::value, "'=' alignment not allowed in string format specifier");
    FormatSpec text = spec;
    if (text.align == '=') text.align = '<';
    return append_padded(rt, out, truncated(rt, value.str_ref(), spec.precision), "", text, '<');
  }
  if (!value.is_number()) {
    require_defined(value);
    raise(ErrorKind::type, "unsupported format string passed to ", type_name(value), ".__format__");
  }
  const bool as_float = value.is_float() || (spec.type && kInteger.find(spec.type) == kInteger.npos);
  if (!as_float) {
    if (spec.precision >= 0) raise(ErrorKind::value, "Precision not allowed in integer format specifier");
    return append_integer(rt, out, *value.integer(), spec);
  }
  if (spec.type && kFloat.find(spec.type) == kFloat.npos) unknown();
  append_float(rt, out, value.is_float() ? *value.get<double>() : static_cast<double>(*value.integer()), spec);
}

StrRef percent_format(Runtime& rt, const Value& format, const Value& values) {
  return PercentFormat(rt, *format.str(), values).run();
}

Value str_format(Runtime& rt, const Value& format, const Args& args) {
  StrBuilder out(rt.meter);
  StrFormat(rt, args).run(out, *format.str(), 1);
  return out.finish(format.str()->markup);
}

}  // namespace cajal::jinja
