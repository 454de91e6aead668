#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <compare>
#include <limits>

#include "text/jinja/case.h"

namespace cajal::jinja {
namespace {

const char* symbol(BinaryOp op) {
  switch (op) {
    case BinaryOp::add: return "+";
    case BinaryOp::subtract: return "-";
    case BinaryOp::multiply: return "*";
    case BinaryOp::divide: return "/";
    case BinaryOp::floor_divide: return "//";
    case BinaryOp::modulo: return "%";
    case BinaryOp::power: return "** or pow()";
  }
  return "";
}

[[noreturn]] void raise_operands(std::string_view op, const Value& a, const Value& b) {
  raise(ErrorKind::type, "unsupported operand type(s) for ", op, ": '", type_name(a), "' and '", type_name(b), "'");
}

[[noreturn]] void raise_overflow() { raise(ErrorKind::overflow, "an integer has more than 64 bits"); }

double as_double(const Value& v) { return v.is_float() ? *v.get<double>() : static_cast<double>(*v.integer()); }

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (a == std::numeric_limits<std::int64_t>::min() && b == -1) raise_overflow();
  const std::int64_t q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0));
}

double python_fmod(double a, double b) {
  double r = std::fmod(a, b);
  if (r != 0) {
    if ((b < 0) != (r < 0)) r += b;
  } else {
    r = std::copysign(0.0, b);
  }
  return r;
}

double python_floor_divide(double a, double b) {
  const double mod = std::fmod(a, b);
  double div = (a - mod) / b;
  if (mod != 0 && (b < 0) != (mod < 0)) div -= 1.0;
  if (div == 0) return std::copysign(0.0, a / b);
  double floor = std::floor(div);
  if (div - floor > 0.5) floor += 1.0;
  return floor;
}

Value integer_power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) raise(ErrorKind::zero_division, "0.0 cannot be raised to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) raise_overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) raise_overflow();
  }
  return result;
}

Value integers(BinaryOp op, std::int64_t a, std::int64_t b) {
  std::int64_t r = 0;
  switch (op) {
    case BinaryOp::add:
      if (__builtin_add_overflow(a, b, &r)) raise_overflow();
      return r;
    case BinaryOp::subtract:
      if (__builtin_sub_overflow(a, b, &r)) raise_overflow();
      return r;
    case BinaryOp::multiply:
      if (__builtin_mul_overflow(a, b, &r)) raise_overflow();
      return r;
    case BinaryOp::divide:
      if (b == 0) raise(ErrorKind::zero_division, "division by zero");
      return static_cast<double>(a) / static_cast<double>(b);
    case BinaryOp::floor_divide:
      if (b == 0) raise(ErrorKind::zero_division, "integer division or modulo by zero");
      return floor_divide(a, b);
    case BinaryOp::modulo:
      if (b == 0) raise(ErrorKind::zero_division, "integer modulo by zero");
      if (b == -1) return std::int64_t{0};
      r = a % b;
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    case BinaryOp::power: return integer_power(a, b);
  }
  return {};
}

Value floats(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::add: return a + b;
    case BinaryOp::subtract: return a - b;
    case BinaryOp::multiply: return a * b;
    case BinaryOp::divide:
      if (b == 0) raise(ErrorKind::zero_division, "float division by zero");
      return a / b;
    case BinaryOp::floor_divide:
      if (b == 0) raise(ErrorKind::zero_division, "float floor division by zero");
      return python_floor_divide(a, b);
    case BinaryOp::modulo:
      if (b == 0) raise(ErrorKind::zero_division, "float modulo by zero");
      return python_fmod(a, b);
    case BinaryOp::power: {
      if (a == 0 && b < 0) raise(ErrorKind::zero_division, "0.0 cannot be raised to a negative power");
      if (a < 0 && std::floor(b) != b && std::isfinite(b) && std::isfinite(a))
        raise(ErrorKind::unsupported, "a power that is a complex number");
      const double r = std::pow(a, b);
      if (std::isinf(r) && std::isfinite(a) && std::isfinite(b))
        raise(ErrorKind::overflow, "Numerical result out of range");
      return r;
    }
  }
  return {};
}

Value repeat(Runtime& rt, const Value& value, std::int64_t count) {
  const auto times = static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0));
  if (const Str* s = value.str()) {
    if (times && s->bytes.size() > rt.meter.limits().string_bytes / times)
      rt.meter.check_string(std::numeric_limits<std::uint64_t>::max());
    StrBuilder out(rt.meter);
    if (!s->bytes.empty())
      for (std::uint64_t i = 0; i < times; ++i) out.add(*s);
    return out.finish(s->markup);
  }
  const Seq& seq = *value.seq();
  std::vector<Value> items;
  if (!seq.items.empty()) {
    const std::uint64_t most = rt.meter.limits().produced_bytes / sizeof(Value);
    rt.meter.produce(times > most / seq.items.size() ? rt.meter.limits().produced_bytes + 1
                                                     : times * seq.items.size() * sizeof(Value));
    for (std::uint64_t i = 0; i < times; ++i) items.insert(items.end(), seq.items.begin(), seq.items.end());
  }
  return make_seq(rt.meter, seq.kind, std::move(items));
}

bool is_list_or_tuple(const Value& v) {
  return v.seq() && (v.seq()->kind == SeqKind::list || v.seq()->kind == SeqKind::tuple);
}

Value add(Runtime& rt, const Value& a, const Value& b) {
  if (a.str() && b.str()) {
    StrBuilder out(rt.meter);
    const bool markup = a.str()->markup || b.str()->markup;
    out.add(markup && !a.str()->markup ? *escape_html(rt, a) : *a.str());
    out.add(markup && !b.str()->markup ? *escape_html(rt, b) : *b.str());
    return out.finish(markup);
  }
  if (a.str()) raise(ErrorKind::type, "can only concatenate str (not \"", type_name(b), "\") to str");
  if (is_list_or_tuple(a)) {
    if (!b.seq() || b.seq()->kind != a.seq()->kind)
      raise(ErrorKind::type, "can only concatenate ", type_name(a), " (not \"", type_name(b), "\") to ", type_name(a));
    rt.meter.produce((a.seq()->items.size() + b.seq()->items.size()) * sizeof(Value));
    std::vector<Value> items = a.seq()->items;
    items.insert(items.end(), b.seq()->items.begin(), b.seq()->items.end());
    return make_seq(rt.meter, a.seq()->kind, std::move(items));
  }
  raise_operands("+", a, b);
}

// Sets, which is what dictionaries' keys are in Python, are compared by their parts.
[[noreturn]] void raise_order(CompareOp op, const Value& a, const Value& b) {
  const char* name = op == CompareOp::lt ? "<" : op == CompareOp::le ? "<=" : op == CompareOp::gt ? ">" : ">=";
  raise(ErrorKind::type, "'", name, "' not supported between instances of '", type_name(a), "' and '", type_name(b),
        "'");
}

std::partial_ordering order_numbers(const Value& a, const Value& b) {
  const auto x = a.integer(), y = b.integer();
  if (x && y) return *x <=> *y;
  // An integer that a double cannot hold compares by its rounded value, unless that is equal.
  const std::partial_ordering rough = as_double(a) <=> as_double(b);
  if (rough != 0 || (!x && !y) || equal(a, b)) return rough;
  const auto exact = [](std::int64_t i, double d) {
    if (d >= 9223372036854775808.0) return std::partial_ordering::less;
    return std::partial_ordering(i <=> static_cast<std::int64_t>(d));
  };
  if (x) return exact(*x, as_double(b));
  return 0 <=> exact(*y, as_double(a));
}

std::partial_ordering order(Runtime& rt, CompareOp op, const Value& a, const Value& b) {
  rt.meter.step();
  if (a.is_number() && b.is_number()) return order_numbers(a, b);
  if (a.str() && b.str()) return a.str()->bytes.compare(b.str()->bytes) <=> 0;  // UTF-8 sorts as its code points do
  if (is_list_or_tuple(a) && is_list_or_tuple(b) && a.seq()->kind == b.seq()->kind) {
    const auto &x = a.seq()->items, &y = b.seq()->items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      rt.meter.step(std::min(weight_of(x[i]), weight_of(y[i])));
      if (!equal(x[i], y[i])) return order(rt, op, x[i], y[i]);
    }
    return x.size() <=> y.size();
  }
  require_defined(a);
  require_defined(b);
  raise_order(op, a, b);
}

}  // namespace

Value binary(Runtime& rt, BinaryOp op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    const auto x = a.integer(), y = b.integer();
    if (x && y) return integers(op, *x, *y);
    return floats(op, as_double(a), as_double(b));
  }
  if (op == BinaryOp::modulo && a.str()) return percent_format(rt, a, b);
  require_defined(a);
  require_defined(b);
  if (op == BinaryOp::add) return add(rt, a, b);
  if (op == BinaryOp::multiply) {
    const auto repeatable = [](const Value& v) { return v.str() || is_list_or_tuple(v); };
    if (repeatable(a) && b.integer()) return repeat(rt, a, *b.integer());
    if (repeatable(b) && a.integer()) return repeat(rt, b, *a.integer());
    if (repeatable(a) || repeatable(b))
      raise(ErrorKind::type, "can't multiply sequence by non-int of type '", type_name(repeatable(a) ? b : a), "'");
  }
  raise_operands(symbol(op), a, b);
}

Value negate(const Value& a) {
  require_defined(a);
  if (const auto i = a.integer()) {
    if (*i == std::numeric_limits<std::int64_t>::min()) raise_overflow();
    return -*i;
  }
  if (a.is_float()) return -*a.get<double>();
  raise(ErrorKind::type, "bad operand type for unary -: '", type_name(a), "'");
}

Value positive(const Value& a) {
  require_defined(a);
  if (const auto i = a.integer()) return *i;
  if (a.is_float()) return a;
  raise(ErrorKind::type, "bad operand type for unary +: '", type_name(a), "'");
}

bool less(Runtime& rt, const Value& a, const Value& b) { return order(rt, CompareOp::lt, a, b) < 0; }

bool contains(Runtime& rt, const Value& container, const Value& element) {
  if (const Str* s = container.str()) {
    if (!element.str())
      raise(ErrorKind::type, "'in <string>' requires string as left operand, not ", type_name(element));
    rt.meter.step(s->bytes.size() / 16);
    return s->bytes.find(element.str()->bytes) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) {
    rt.meter.step(weight_of(element));
    return dict->find(element) != nullptr;
  }
  if (!is_iterable(container)) raise(ErrorKind::type, "argument of type '", type_name(container), "' is not iterable");
  for (const Value& item : Items(rt.meter, container)) {
    rt.meter.step(std::min(weight_of(item), weight_of(element)));
    if (equal(item, element)) return true;
  }
  return false;
}

bool compare(Runtime& rt, CompareOp op, const Value& a, const Value& b) {
  rt.meter.step(std::min(weight_of(a), weight_of(b)));
  switch (op) {
    case CompareOp::eq: return equal(a, b);
    case CompareOp::ne: return !equal(a, b);
    case CompareOp::lt: return order(rt, op, a, b) < 0;
    case CompareOp::le: return order(rt, op, a, b) <= 0;
    case CompareOp::gt: return order(rt, op, a, b) > 0;
    case CompareOp::ge: return order(rt, op, a, b) >= 0;
    case CompareOp::in: return contains(rt, b, a);
    case CompareOp::not_in: return !contains(rt, b, a);
  }
  return false;
}

StrRef escape_html(Runtime& rt, const Value& value) {
  StrRef text = to_str(rt, value);
  if (text->markup) return text;
  StrBuilder out(rt.meter);
  std::size_t plain = 0;
  for (std::size_t at = 0; at < text->bytes.size(); ++at) {
    const char* name = nullptr;
    switch (text->bytes[at]) {
      case '&': name = "&amp;"; break;
      case '<': name = "&lt;"; break;
      case '>': name = "&gt;"; break;
      case '"': name = "&#34;"; break;
      case '\'': name = "&#39;"; break;
      default: continue;
    }
    out.add(*text, plain, at);
    out.add(name, text->is_user(at));
    plain = at + 1;
  }
  out.add(*text, plain, text->bytes.size());
  return out.finish(true);
}

}  // namespace cajal::jinja
