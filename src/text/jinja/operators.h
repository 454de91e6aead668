#pragma once
// Python's operators on template values.
#include "text/jinja/runtime.h"

namespace cajal::jinja {

enum class BinaryOp { add, subtract, multiply, divide, floor_divide, modulo, power };
enum class CompareOp { eq, ne, lt, le, gt, ge, in, not_in };

Value binary(Runtime& rt, BinaryOp op, const Value& a, const Value& b);
Value negate(const Value& a);
Value positive(const Value& a);
bool compare(Runtime& rt, CompareOp op, const Value& a, const Value& b);
bool less(Runtime& rt, const Value& a, const Value& b);
bool contains(Runtime& rt, const Value& container, const Value& element);

// `format % values`
StrRef percent_format(Runtime& rt, const Value& format, const Value& values);
// format.format(...)
Value str_format(Runtime& rt, const Value& format, const Args& args);
// The text of a number or string under a format specification such as ">8.2f"; shared by both ways of formatting.
struct FormatSpec {
  std::string fill = " ";
  char align = 0;  // '<' '>' '^' '='
  char sign = 0;   // '+' ' ' '-'
  bool alternate = false, comma = false, underscore = false;
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char type = 0;
};
// Failure(value) or Failure(type) where Python has one.
void append_formatted(Runtime& rt, StrBuilder& out, const Value& value, const FormatSpec& spec);

StrRef escape_html(Runtime& rt, const Value& value);

}  // namespace cajal::jinja
