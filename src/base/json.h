#pragma once
// JSON as a value. Parsing is simdjson's; this is the one place that knows it. Objects keep the order of the file, and
// integers stay apart from floating-point numbers, as templates and configurations need.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cajal {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // in the order of the file; a repeated key stands twice

  Json() = default;
  // Implicit, so that a literal is a Json. NOLINTBEGIN(google-explicit-constructor)
  Json(std::nullptr_t) {}
  Json(bool v) : value_(v) {}
  Json(int v) : value_(static_cast<std::int64_t>(v)) {}
  Json(std::int64_t v) : value_(v) {}
  Json(std::uint64_t v);
  Json(double v) : value_(v) {}
  Json(const char* v) : value_(std::string(v)) {}
  Json(std::string_view v) : value_(std::string(v)) {}
  Json(std::string v) : value_(std::move(v)) {}
  Json(Array v) : value_(std::move(v)) {}
  Json(Object v) : value_(std::move(v)) {}
  // NOLINTEND(google-explicit-constructor)

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(value_); }
  bool is_double() const { return std::holds_alternative<double>(value_); }
  bool is_number() const { return is_int() || is_double(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  const char* type_name() const;  // "null", "a boolean", "an integer", "a number", "a string", "an array", "an object"

  // The value as a type it has; asking for another is our bug, so ask first.
  bool as_bool() const { return std::get<bool>(value_); }
  std::int64_t as_int() const { return std::get<std::int64_t>(value_); }
  double as_double() const { return is_int() ? static_cast<double>(as_int()) : std::get<double>(value_); }
  const std::string& as_string() const { return std::get<std::string>(value_); }
  const Array& as_array() const { return std::get<Array>(value_); }
  Array& as_array() { return std::get<Array>(value_); }
  const Object& as_object() const { return std::get<Object>(value_); }
  Object& as_object() { return std::get<Object>(value_); }

  // The member `key` of an object, or null if it is absent or this is no object. Of repeated keys the last counts.
  const Json* find(std::string_view key) const;
  // Adds or replaces a member; a null value becomes an object first.
  Json& set(std::string_view key, Json value);
  void push_back(Json value);  // a null value becomes an array first

  bool operator==(const Json&) const = default;

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> value_;
};

struct JsonLimits {
  std::size_t max_bytes = std::size_t{1} << 30;
  int max_depth = 64;
};

// Parses one JSON document. Throws Error(data_loss) that names `what` (a file, "the request body"), line and column.
// Integers that do not fit std::int64_t become floating-point numbers, as in JavaScript.
Json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits = {});

// Writes compact JSON (no spaces) or, with indent > 0, one member a line. Strings are written as UTF-8; bytes that are
// not UTF-8 become U+FFFD. Floating-point numbers take the fewest digits that read back the same; NaN and infinities,
// which JSON does not have, become null.
std::string to_json(const Json& value, int indent = 0);
void append_json_string(std::string& out, std::string_view text);  // with quotes

}  // namespace cajal
