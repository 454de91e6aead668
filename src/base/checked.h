#pragma once
// Arithmetic on sizes that come from a file or a request: a result that does not fit is an Error, never a wrap.
#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>

#include "base/error.h"

namespace cajal {

template <std::integral T>
T checked_add(T a, T b, std::string_view what) {
  T result;
  if (__builtin_add_overflow(a, b, &result)) fail(ErrorCode::data_loss, what, ": ", a, " + ", b, " overflows");
  return result;
}

template <std::integral T>
T checked_mul(T a, T b, std::string_view what) {
  T result;
  if (__builtin_mul_overflow(a, b, &result)) fail(ErrorCode::data_loss, what, ": ", a, " x ", b, " overflows");
  return result;
}

// `value` as another integer type, or an Error that names it.
template <std::integral To, std::integral From>
To checked_cast(From value, std::string_view what) {
  if (!std::in_range<To>(value))
    fail(ErrorCode::data_loss, what, ": ", value, " is outside ", +std::numeric_limits<To>::min(), "..",
         +std::numeric_limits<To>::max());
  return static_cast<To>(value);
}

template <std::integral T>
constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}
template <std::integral T>
constexpr T round_up(T a, T b) {
  return ceil_div(a, b) * b;
}

}  // namespace cajal
