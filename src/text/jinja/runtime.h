#pragma once
// What filters, tests, methods and operators may use of a rendering.
#include <cstdint>
#include <ctime>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "text/jinja/value.h"

namespace cajal::jinja {

class Runtime {
 public:
  Runtime(const Limits& limits, const std::optional<std::tm>& now) : meter(limits), now_(now) {}
  virtual ~Runtime() = default;

  virtual Value call(const Value& callee, const Args& args) = 0;
  // Objects that may hold others are kept until the rendering ends, and then cleared.
  virtual void keep(ObjectRef object) = 0;
  const std::optional<std::tm>& now() const { return now_; }

  Meter meter;

 private:
  std::optional<std::tm> now_;
};

using Filter = Value (*)(Runtime& rt, const Value& input, const Args& args);
Filter find_filter(std::string_view name);  // null if there is none
Filter find_test(std::string_view name);
// `map('upper')` and its like: a name that is not known is Failure(runtime).
Value apply_filter(Runtime& rt, std::string_view name, const Value& input, const Args& args);
bool apply_test(Runtime& rt, std::string_view name, const Value& input, const Args& args);

using Method = Value (*)(Runtime& rt, const Value& self, const Args& args);
// A method that values of this type have, or null.
Method find_method(const Value& self, std::string_view name);

// range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
std::optional<Value> find_global(std::string_view name);

// Jinja's lookups: `object.name` prefers attributes, `object[key]` prefers elements; what is missing is undefined.
Value get_attribute(Runtime& rt, const Value& object, std::string_view name);
Value get_item(Runtime& rt, const Value& object, const Value& key);
Value get_slice(Runtime& rt, const Value& object, const Value& start, const Value& stop, const Value& step);

// Arguments by position or name, as Python binds them. Absent ones are null.
class Bound {
 public:
  // Names of parameters; the first `required` must be given.
  Bound(std::string_view function, const Args& args, std::initializer_list<std::string_view> names,
        std::size_t required = 0);

  bool has(std::size_t i) const { return values_[i] != nullptr; }
  const Value& operator[](std::size_t i) const { return *values_[i]; }
  Value value_or(std::size_t i, const Value& absent) const { return has(i) ? *values_[i] : absent; }
  std::int64_t integer_or(std::size_t i, std::int64_t absent) const;  // Failure(type) if it is none
  bool truth_or(std::size_t i, bool absent) const { return has(i) ? truth(*values_[i]) : absent; }

 private:
  static constexpr std::size_t kMost = 8;
  const Value* values_[kMost] = {};
};
std::int64_t require_integer(const Value& value);

// str(value), with the bytes' origin. Strings stay as they are (also markup).
StrRef to_str(Runtime& rt, const Value& value);
void append_str(Runtime& rt, StrBuilder& out, const Value& value);
void append_repr(Runtime& rt, StrBuilder& out, const Value& value, int depth = 0);
std::string repr_of(Runtime& rt, const Value& value);  // for messages: shortened
std::string float_repr(double value);

}  // namespace cajal::jinja
