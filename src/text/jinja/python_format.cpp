// str() and repr() of values, as Python writes them.
#include <array>
#include <charconv>
#include <cmath>

#include "base/utf8.h"
#include "text/jinja/case.h"
#include "text/jinja/runtime.h"

namespace cajal::jinja {
namespace {

constexpr int kMaxReprDepth = 150;  // through objects, which may hold one another

void append_escape(StrBuilder& out, char32_t c, bool user) {
  std::array<char, 16> buffer{};
  const char* form = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
  const int n = std::snprintf(buffer.data(), buffer.size(), form, static_cast<unsigned>(c));
  out.add(std::string_view(buffer.data(), static_cast<std::size_t>(n)), user);
}

void append_str_repr(StrBuilder& out, const Str& s) {
  const bool has_single = s.bytes.find('\'') != std::string::npos, has_double = s.bytes.find('"') != std::string::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  const std::string_view quotes(&quote, 1);
  out.add(quotes);
  std::size_t plain = 0;
  for (std::size_t at = 0; at < s.bytes.size();) {
    const Utf8Step step = decode_utf8(s.bytes, at);
    const char32_t c = step.code_point;
    const bool quoted = c == static_cast<char32_t>(quote) || c == '\\';
    if (quoted || !is_printable(c)) {
      out.add(s, plain, at);
      const bool user = s.is_user(at);
      if (quoted)
        out.add(std::string{'\\', static_cast<char>(c)}, user);
      else if (c == '\n' || c == '\r' || c == '\t')
        out.add(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", user);
      else
        append_escape(out, c, user);
      plain = at + step.length;
    }
    at += step.length;
  }
  out.add(s, plain, s.bytes.size());
  out.add(quotes);
}

void append_seq(Runtime& rt, StrBuilder& out, const Seq& seq, int depth) {
  if (seq.kind == SeqKind::range) {
    out.add(::cajal::detail::join("range(", seq.start, ", ", seq.stop));
    if (seq.step != 1) out.add(::cajal::detail::join(", ", seq.step));
    return out.add(")");
  }
  if (seq.kind == SeqKind::iterator) return out.add("<" + seq.type_name + " object>");
  const bool view = seq.kind != SeqKind::list && seq.kind != SeqKind::tuple;
  if (view) out.add(type_name(Value(std::shared_ptr<const Seq>(std::shared_ptr<const Seq>(), &seq))) + "(");
  out.add(seq.kind == SeqKind::tuple ? "(" : "[");
  for (std::size_t i = 0; i < seq.items.size(); ++i) {
    if (i) out.add(", ");
    append_repr(rt, out, seq.items[i], depth + 1);
  }
  if (seq.kind == SeqKind::tuple && seq.items.size() == 1) out.add(",");
  out.add(seq.kind == SeqKind::tuple ? ")" : "]");
  if (view) out.add(")");
}

}  // namespace

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // The shortest digits that read back the same, then Python's choice between the two notations.
  std::array<char, 40> buffer{};
  const auto scientific =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<std::size_t>(scientific.ptr - buffer.data()));
  const std::size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) return std::string(text);  // both write at least two digits of exponent
  const auto fixed = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  std::string result(buffer.data(), static_cast<std::size_t>(fixed.ptr - buffer.data()));
  if (result.find('.') == std::string::npos) result += ".0";
  return result;
}

void append_repr(Runtime& rt, StrBuilder& out, const Value& value, int depth) {
  rt.meter.step();
  if (depth > kMaxReprDepth) raise(ErrorKind::limit, "a value is nested too deeply to be printed");
  struct Visitor {
    Runtime& rt;
    StrBuilder& out;
    int depth;
    void operator()(None) const { out.add("None"); }
    void operator()(bool b) const { out.add(b ? "True" : "False"); }
    void operator()(std::int64_t i) const { out.add(std::to_string(i)); }
    void operator()(double d) const { out.add(float_repr(d)); }
    void operator()(const StrRef& s) const {
      if (s->markup) out.add("Markup(");
      append_str_repr(out, *s);
      if (s->markup) out.add(")");
    }
    void operator()(const SeqRef& s) const { append_seq(rt, out, *s, depth); }
    void operator()(const DictRef& d) const {
      out.add("{");
      bool first = true;
      for (const auto& [key, member] : d->entries()) {
        if (!first) out.add(", ");
        first = false;
        append_repr(rt, out, key, depth + 1);
        out.add(": ");
        append_repr(rt, out, member, depth + 1);
      }
      out.add("}");
    }
    // The text may quote user text, so all of it counts as such.
    void operator()(const ObjectRef& o) const { out.add(o->repr(rt, depth + 1), true); }
    void operator()(const std::shared_ptr<const Undefined>&) const { out.add("Undefined"); }
  };
  std::visit(Visitor{rt, out, depth}, value.storage());
}

void append_str(Runtime& rt, StrBuilder& out, const Value& value) {
  if (const Str* s = value.str()) return out.add(*s);
  if (value.is_undefined()) return;
  append_repr(rt, out, value);
}

StrRef to_str(Runtime& rt, const Value& value) {
  if (value.is_str()) return value.str_ref();
  StrBuilder out(rt.meter);
  append_str(rt, out, value);
  return out.finish();
}

std::string repr_of(Runtime& rt, const Value& value) {
  StrBuilder out(rt.meter);
  append_repr(rt, out, value);
  std::string text = out.take().bytes;
  constexpr std::size_t kMost = 120;
  if (text.size() > kMost) {
    std::size_t cut = kMost;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;
    text = text.substr(0, cut) + "...";
  }
  return text;
}

}  // namespace cajal::jinja
