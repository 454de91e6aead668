#pragma once
// Element types, and the conversions between the floating-point ones that every layer must agree on.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace cajal {

enum class DType : std::uint8_t { bf16, f16, f32, f8_e4m3, i8, u8, i32, i64, boolean };

constexpr std::size_t size_of(DType t) {
  switch (t) {
    case DType::f8_e4m3:
    case DType::i8:
    case DType::u8:
    case DType::boolean: return 1;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::f32:
    case DType::i32: return 4;
    case DType::i64: return 8;
  }
  return 0;
}
const char* to_string(DType t);  // "bf16", "f32", …
std::optional<DType> dtype_from_string(std::string_view name);

inline float bf16_to_float(std::uint16_t b) { return std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16); }

// To nearest, ties to even; a NaN stays one.
inline std::uint16_t float_to_bf16(float f) {
  const auto bits = std::bit_cast<std::uint32_t>(f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float f16_to_float(std::uint16_t h);
std::uint16_t float_to_f16(float f);  // to nearest, ties to even; overflow is infinity

}  // namespace cajal
