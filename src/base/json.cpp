#include "base/json.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/utf8.h"

namespace cajal {

Json::Json(std::uint64_t v) {
  if (v <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    value_ = static_cast<std::int64_t>(v);
  else
    value_ = static_cast<double>(v);
}

const char* Json::type_name() const {
  static constexpr const char* kNames[] = {"null",     "a boolean", "an integer", "a number",
                                           "a string", "an array",  "an object"};
  return kNames[value_.index()];
}

const Json* Json::find(std::string_view key) const {
  const auto* object = std::get_if<Object>(&value_);
  if (!object) return nullptr;
  for (auto it = object->rbegin(); it != object->rend(); ++it)
    if (it->first == key) return &it->second;
  return nullptr;
}

Json& Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = Object{};
  for (auto& [name, old] : as_object())
    if (name == key) {
      old = std::move(value);
      return old;
    }
  as_object().emplace_back(std::string(key), std::move(value));
  return as_object().back().second;
}

void Json::push_back(Json value) {
  if (is_null()) value_ = Array{};
  as_array().push_back(std::move(value));
}

namespace {

namespace od = simdjson::ondemand;

class Reader {
 public:
  Reader(std::string_view text, std::string_view what, int max_depth)
      : text_(text), what_(what), max_depth_(max_depth) {}

  Json read() {
    Json whole = read_text(text_, 0);
    if (!scalar_) return whole;
    // simdjson reads numbers and words that stand alone less strictly than those in a list, so put it into one.
    whole = read_text("[" + std::string(text_) + "]", 1);
    if (whole.as_array().size() != 1) fail(ErrorCode::data_loss, what_, ": not valid JSON: more than one value");
    return std::move(whole.as_array().front());
  }

 private:
  [[noreturn]] void fail_at(const char* at, std::string_view why) const {
    if (!at || !base_ || at < base_ || at > base_ + text_.size())
      fail(ErrorCode::data_loss, what_, ": not valid JSON: ", why);
    const std::string_view before(base_, static_cast<std::size_t>(at - base_));
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const auto newline = before.rfind('\n');
    const auto column = newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
    fail(ErrorCode::data_loss, what_, ", line ", line, ", column ", column, ": not valid JSON: ", why);
  }
  const char* location() const {
    const char* at = nullptr;
    if (!document_ || document_->current_location().get(at)) return nullptr;
    return at;
  }
  void check(simdjson::error_code code, const char* at) const {
    if (code) fail_at(at, simdjson::error_message(code));
  }

  // Reads `text`, in which what the caller gave begins at `skipped`; if that is no array or object, sets scalar_
  // instead.
  Json read_text(std::string_view text, std::size_t skipped) {
    const simdjson::padded_string padded(text);
    od::parser parser;
    od::document document;
    document_ = nullptr;
    check(parser.iterate(padded).get(document), nullptr);
    base_ = padded.data() + skipped;
    document_ = &document;
    check(document.is_scalar().get(scalar_), location());
    if (scalar_) return {};
    od::value root;
    check(document.get_value().get(root), location());
    Json result = read_value(root, skipped ? 0 : 1);
    if (const char* rest = location()) fail_at(rest, "text after the end of the JSON value");
    return result;
  }

  Json read_value(od::value value, int depth) {
    if (depth > max_depth_) fail_at(location(), "nested too deeply");
    od::json_type type{};
    check(value.type().get(type), location());
    switch (type) {
      case od::json_type::object: return read_object(value, depth);
      case od::json_type::array: return read_array(value, depth);
      case od::json_type::string: {
        std::string_view s;
        check(value.get_string().get(s), location());
        return Json(s);
      }
      case od::json_type::boolean: {
        bool b = false;
        check(value.get_bool().get(b), location());
        return Json(b);
      }
      case od::json_type::number: return read_number(value);
      case od::json_type::null: {
        bool null = false;
        check(value.is_null().get(null), location());
        if (!null) fail_at(location(), "unknown word");
        return Json();
      }
    }
    fail_at(location(), "unknown value");
  }

  Json read_number(od::value value) {
    const std::string_view token = value.raw_json_token();
    if (token.find_first_of(".eE") == std::string_view::npos) {
      std::int64_t i = 0;
      if (!value.get_int64().get(i)) return Json(i);
      std::uint64_t u = 0;
      if (!value.get_uint64().get(u)) return Json(u);
    }
    double d = 0;
    check(value.get_double().get(d), location());
    return Json(d);
  }

  Json read_object(od::value& value, int depth) {
    od::object object;
    check(value.get_object().get(object), location());
    Json::Object members;
    for (auto entry : object) {
      od::field field;
      check(std::move(entry).get(field), location());
      std::string_view key;
      check(field.unescaped_key().get(key), location());
      std::string name(key);
      members.emplace_back(std::move(name), read_value(field.value(), depth + 1));
    }
    return Json(std::move(members));
  }

  Json read_array(od::value& value, int depth) {
    od::array array;
    check(value.get_array().get(array), location());
    Json::Array elements;
    for (auto entry : array) {
      od::value element;
      check(entry.get(element), location());
      elements.push_back(read_value(element, depth + 1));
    }
    return Json(std::move(elements));
  }

  std::string_view text_, what_;
  int max_depth_;
  bool scalar_ = false;
  const char* base_ = nullptr;
  od::document* document_ = nullptr;
};

void append_number(std::string& out, double v) {
  if (!std::isfinite(v)) {
    out += "null";
    return;
  }
  char buffer[32];
  const auto [end, ec] = std::to_chars(buffer, buffer + sizeof buffer, v);
  const std::string_view digits(buffer, static_cast<std::size_t>(end - buffer));
  out += digits;
  if (digits.find_first_of(".en") == std::string_view::npos) out += ".0";  // a float stays one when read back
}

void append(std::string& out, const Json& value, int indent, int level) {
  const auto newline = [&](int depth) {
    if (indent <= 0) return;
    out += '\n';
    out.append(static_cast<std::size_t>(indent) * static_cast<std::size_t>(depth), ' ');
  };
  if (value.is_null()) {
    out += "null";
  } else if (value.is_bool()) {
    out += value.as_bool() ? "true" : "false";
  } else if (value.is_int()) {
    out += std::to_string(value.as_int());
  } else if (value.is_double()) {
    append_number(out, value.as_double());
  } else if (value.is_string()) {
    append_json_string(out, value.as_string());
  } else if (value.is_array()) {
    out += '[';
    bool first = true, flat = true;
    for (const Json& element : value.as_array()) flat = flat && !element.is_array() && !element.is_object();
    for (const Json& element : value.as_array()) {
      if (!first) out += ',';
      if (!flat) newline(level + 1);
      append(out, element, indent, level + 1);
      first = false;
    }
    if (!first && !flat) newline(level);
    out += ']';
  } else {
    out += '{';
    bool first = true;
    for (const auto& [key, member] : value.as_object()) {
      if (!first) out += ',';
      newline(level + 1);
      append_json_string(out, key);
      out += indent > 0 ? ": " : ":";
      append(out, member, indent, level + 1);
      first = false;
    }
    if (!first) newline(level);
    out += '}';
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    fail(ErrorCode::data_loss, what, ": ", text.size(), " bytes of JSON, at most ", limits.max_bytes, " are read");
  return Reader(text, what, limits.max_depth).read();
}

void append_json_string(std::string& out, std::string_view text) {
  const std::string repaired = is_valid_utf8(text) ? std::string() : replace_invalid_utf8(text);
  if (!repaired.empty()) text = repaired;
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          static constexpr char kHex[] = "0123456789abcdef";
          out += "\\u00";
          out += kHex[static_cast<unsigned char>(c) >> 4];
          out += kHex[static_cast<unsigned char>(c) & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

std::string to_json(const Json& value, int indent) {
  std::string out;
  append(out, value, indent, 0);
  return out;
}

}  // namespace cajal
