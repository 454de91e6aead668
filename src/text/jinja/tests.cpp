// What stands after "is".
#include <algorithm>
#include <array>

#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/str_methods.h"

namespace cajal::jinja {
namespace {

std::int64_t modulo(Runtime& rt, const Value& value, const Value& by) {
  const Value rest = binary(rt, BinaryOp::modulo, value, by);
  if (rest.str()) return -1;  // "%" formats strings
  if (rest.is_float()) return *rest.get<double>() == 0 ? 0 : *rest.get<double>() == 1 ? 1 : -1;
  return rest.integer().value_or(-1);
}

template <CompareOp op>
Value compared(Runtime& rt, const Value& value, const Args& args) {
  const Bound b("compare", args, {"other"}, 1);
  return compare(rt, op, value, b[0]);
}

template <bool (*predicate)(const Value&)>
Value plain(Runtime&, const Value& value, const Args& args) {
  const Bound b("test", args, {});
  return predicate(value);
}

bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_undefined(const Value& v) { return v.is_undefined(); }
bool is_none(const Value& v) { return v.is_none(); }
bool is_boolean(const Value& v) { return v.is_bool(); }
bool is_true(const Value& v) { return v.is_true(); }
bool is_false(const Value& v) { return v.is_false(); }
bool is_integer(const Value& v) { return v.is_int(); }
bool is_float(const Value& v) { return v.is_float(); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.str() != nullptr; }
bool is_mapping(const Value& v) { return v.dict() != nullptr; }
bool is_iterable_value(const Value& v) { return is_iterable(v); }
bool is_escaped(const Value& v) { return v.str() && v.str()->markup; }
bool is_callable(const Value& v) { return v.is_undefined() || (v.object() && (*v.object())->is_callable()); }
bool is_sequence(const Value& v) {
  return v.str() || v.dict() || v.is_undefined() || (v.seq() && v.seq()->is_indexable());
}

Value is_odd(Runtime& rt, const Value& value, const Args& args) {
  const Bound b("odd", args, {});
  return modulo(rt, value, std::int64_t{2}) == 1;
}
Value is_even(Runtime& rt, const Value& value, const Args& args) {
  const Bound b("even", args, {});
  return modulo(rt, value, std::int64_t{2}) == 0;
}
Value is_divisible(Runtime& rt, const Value& value, const Args& args) {
  const Bound b("divisibleby", args, {"num"}, 1);
  return modulo(rt, value, b[0]) == 0;
}
Value is_same(Runtime&, const Value& value, const Args& args) {
  const Bound b("sameas", args, {"other"}, 1);
  return identical(value, b[0]);
}
Value is_in(Runtime& rt, const Value& value, const Args& args) {
  const Bound b("in", args, {"seq"}, 1);
  return contains(rt, b[0], value);
}
Value has_upper(Runtime& rt, const Value& value, const Args& args) {
  const Bound b("upper", args, {});
  return has_case(*to_str(rt, value), true);
}
Value has_lower(Runtime& rt, const Value& value, const Args& args) {
  const Bound b("lower", args, {});
  return has_case(*to_str(rt, value), false);
}
Value names_filter(Runtime&, const Value& value, const Args& args) {
  const Bound b("filter", args, {});
  (void)hash_of(value);
  return value.str() && find_filter(value.str()->bytes) != nullptr;
}
Value names_test(Runtime&, const Value& value, const Args& args) {
  const Bound b("test", args, {});
  (void)hash_of(value);
  return value.str() && find_test(value.str()->bytes) != nullptr;
}

constexpr std::array<NamedFilter, 39> kTests = {{
    {"!=", compared<CompareOp::ne>},
    {"<", compared<CompareOp::lt>},
    {"<=", compared<CompareOp::le>},
    {"==", compared<CompareOp::eq>},
    {">", compared<CompareOp::gt>},
    {">=", compared<CompareOp::ge>},
    {"boolean", plain<is_boolean>},
    {"callable", plain<is_callable>},
    {"defined", plain<is_defined>},
    {"divisibleby", is_divisible},
    {"eq", compared<CompareOp::eq>},
    {"equalto", compared<CompareOp::eq>},
    {"escaped", plain<is_escaped>},
    {"even", is_even},
    {"false", plain<is_false>},
    {"filter", names_filter},
    {"float", plain<is_float>},
    {"ge", compared<CompareOp::ge>},
    {"greaterthan", compared<CompareOp::gt>},
    {"gt", compared<CompareOp::gt>},
    {"in", is_in},
    {"integer", plain<is_integer>},
    {"iterable", plain<is_iterable_value>},
    {"le", compared<CompareOp::le>},
    {"lessthan", compared<CompareOp::lt>},
    {"lower", has_lower},
    {"lt", compared<CompareOp::lt>},
    {"mapping", plain<is_mapping>},
    {"ne", compared<CompareOp::ne>},
    {"none", plain<is_none>},
    {"number", plain<is_number>},
    {"odd", is_odd},
    {"sameas", is_same},
    {"sequence", plain<is_sequence>},
    {"string", plain<is_string>},
    {"test", names_test},
    {"true", plain<is_true>},
    {"undefined", plain<is_undefined>},
    {"upper", has_upper},
}};

}  // namespace

Filter find_test(std::string_view name) { return find_in(kTests, name); }

bool apply_test(Runtime& rt, std::string_view name, const Value& input, const Args& args) {
  const Filter test = find_test(name);
  if (!test) raise(ErrorKind::runtime, "No test named '", name, "'.");
  rt.meter.step();
  return truth(test(rt, input, args));
}

}  // namespace cajal::jinja
