#include "text/jinja/json_dump.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "text/jinja/operators.h"
#include "text/unicode.h"

namespace cajal::jinja {
namespace {

class Dumper {
 public:
  Dumper(Runtime& rt, const JsonStyle& style) : rt_(rt), style_(style), out_(rt.meter) {}

  StrRef finish() { return out_.finish(); }

  void value(const Value& v, int level) {
    rt_.meter.step();
    if (v.is_none()) return out_.add("null");
    if (v.is_bool()) return out_.add(v.is_true() ? "true" : "false");
    if (v.is_int()) return out_.add(std::to_string(*v.get<std::int64_t>()));
    if (v.is_float()) return out_.add(number(*v.get<double>()));
    if (const Str* s = v.str()) return string(*s);
    if (const Seq* seq = v.seq(); seq && (seq->kind == SeqKind::list || seq->kind == SeqKind::tuple))
      return list(*seq, level);
    if (const Dict* dict = v.dict()) return object(*dict, level);
    raise(ErrorKind::type, "Object of type ", type_name(v), " is not JSON serializable");
  }

 private:
  static std::string number(double d) {
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
    return float_repr(d);
  }

  void newline(int level) {
    if (!style_.indent) return;
    out_.add("\n");
    for (int i = 0; i < level; ++i) out_.add(*style_.indent);
  }

  void list(const Seq& seq, int level) {
    if (seq.items.empty()) return out_.add("[]");
    out_.add("[");
    for (std::size_t i = 0; i < seq.items.size(); ++i) {
      if (i) out_.add(*style_.item_separator);
      newline(level + 1);
      value(seq.items[i], level + 1);
    }
    newline(level);
    out_.add("]");
  }

  void object(const Dict& dict, int level) {
    if (dict.size() == 0) return out_.add("{}");
    std::vector<const Dict::Entry*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto* a, const auto* b) { return less(rt_, a->first, b->first); });
    out_.add("{");
    bool first = true;
    for (const Dict::Entry* entry : entries) {
      if (!std::exchange(first, false)) out_.add(*style_.item_separator);
      newline(level + 1);
      key(entry->first);
      out_.add(*style_.key_separator);
      value(entry->second, level + 1);
    }
    newline(level);
    out_.add("}");
  }

  void key(const Value& k) {
    if (const Str* s = k.str()) return string(*s);
    if (!k.is_none() && !k.is_number())
      raise(ErrorKind::type, "keys must be str, int, float, bool or None, not ", type_name(k));
    out_.add("\"");
    value(k, 0);
    out_.add("\"");
  }

  void string(const Str& s) {
    out_.add("\"");
    std::size_t plain = 0;
    for (std::size_t at = 0; at < s.bytes.size();) {
      const auto c = unicode::decode_valid(s.bytes, at);
      std::array<char, 16> buffer{};
      const char* escape = buffer.data();
      switch (c.value) {
        case '"': escape = "\\\""; break;
        case '\\': escape = "\\\\"; break;
        case '\n': escape = "\\n"; break;
        case '\r': escape = "\\r"; break;
        case '\t': escape = "\\t"; break;
        case '\b': escape = "\\b"; break;
        case '\f': escape = "\\f"; break;
        default:
          if (c.value < 0x20 || (style_.ensure_ascii && c.value >= 0x7f && c.value < 0x10000)) {
            std::snprintf(buffer.data(), buffer.size(), "\\u%04x", static_cast<unsigned>(c.value));
          } else if (style_.ensure_ascii && c.value >= 0x10000) {
            const unsigned v = static_cast<unsigned>(c.value) - 0x10000;
            std::snprintf(buffer.data(), buffer.size(), "\\u%04x\\u%04x", 0xd800 | (v >> 10), 0xdc00 | (v & 0x3ff));
          } else {
            escape = nullptr;
          }
      }
      if (escape) {
        out_.add(s, plain, at);
        out_.add(escape, s.is_user(at));
        plain = at + c.length;
      }
      at += c.length;
    }
    out_.add(s, plain, s.bytes.size());
    out_.add("\"");
  }

  Runtime& rt_;
  const JsonStyle& style_;
  StrBuilder out_;
};

}  // namespace

StrRef dump_json(Runtime& rt, const Value& value, const JsonStyle& style) {
  Dumper dumper(rt, style);
  dumper.value(value, 0);
  return dumper.finish();
}

Value filter_tojson(Runtime& rt, const Value& value, const Args& args) {
  const Bound b("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = b.truth_or(0, false);
  style.sort_keys = b.truth_or(3, false);
  if (b.has(1) && !b[1].is_none()) {
    if (b[1].str()) {
      style.indent = b[1].str_ref();
    } else {
      const std::int64_t n = std::max<std::int64_t>(require_integer(b[1]), 0);
      rt.meter.check_string(static_cast<std::uint64_t>(n));
      style.indent = make_str(std::string(static_cast<std::size_t>(n), ' '));
    }
  }
  style.item_separator = make_str(style.indent ? "," : ", ");
  style.key_separator = make_str(": ");
  if (b.has(2) && !b[2].is_none()) {
    const Items pair(rt.meter, b[2]);
    if (pair.size() != 2) raise(ErrorKind::value, "separators must be two strings, not ", pair.size());
    for (const Value& v : pair)
      if (!v.str()) raise(ErrorKind::type, "separators must be strings, not ", type_name(v));
    style.item_separator = pair[0].str_ref();
    style.key_separator = pair[1].str_ref();
  }
  return dump_json(rt, value, style);
}

}  // namespace cajal::jinja
