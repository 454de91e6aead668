#include "tensor/quantized.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace cajal {
namespace {

constexpr std::int64_t kMaxGroup = 128;

// Four numbers at a time, as every processor has them: weights are rounded while a model is loaded.
using Floats = float __attribute__((vector_size(16)));
using Ints = std::int32_t __attribute__((vector_size(16)));
using Words = std::uint16_t __attribute__((vector_size(8)));
constexpr std::size_t kLanes = 4;

template <class Vector, class Element>
Vector load(const Element* p) {
  Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
Floats all_of(float f) { return Floats{f, f, f, f}; }

// Added to a number below 2^22 it rounds that to the nearest integer, ties to even: a float's last bit is worth one there.
constexpr float kRound = 12582912.0f;

float as_f16(float v) { return f16_to_float(float_to_f16(v)); }

// The bits of the largest magnitude, those of an infinity or more if a number is not finite.
std::uint32_t largest_magnitude(std::span<const float> group) {
  Ints most{};
  for (std::size_t i = 0; i < group.size(); i += kLanes) {
    const Ints magnitude = load<Ints>(&group[i]) & 0x7fffffff;
    most = magnitude > most ? magnitude : most;
  }
  return static_cast<std::uint32_t>(std::max(std::max(most[0], most[1]), std::max(most[2], most[3])));
}

// integers = group / scale to nearest, within [lowest, highest].
void round_group(std::span<const float> group, float scale, float lowest, float highest, std::int8_t* integers) {
  const Floats inverse = all_of(scale != 0 ? 1.0f / scale : 0.0f), least = all_of(lowest), most = all_of(highest);
  for (std::size_t i = 0; i < group.size(); i += kLanes) {
    Floats v = load<Floats>(&group[i]) * inverse;
    v = v < least ? least : v;
    v = v > most ? most : v;
    // The lowest bits of such a sum are the integer's.
    const Floats shifted = v + all_of(kRound);
    std::uint64_t pairs[2];
    std::memcpy(pairs, &shifted, sizeof shifted);
    for (std::size_t j = 0; j < 2; ++j) {
      const auto two = static_cast<std::uint16_t>((pairs[j] & 0xff) | (pairs[j] >> 24 & 0xff00));
      std::memcpy(integers + i + 2 * j, &two, sizeof two);
    }
  }
}

// sum(w q) / sum(q q), in four interleaved sums.
float best_scale(std::span<const float> group, const std::int8_t* integers) {
  Floats products{}, squares{};
  for (std::size_t i = 0; i < group.size(); i += kLanes) {
    const Floats q =
        __builtin_convertvector(Ints{integers[i], integers[i + 1], integers[i + 2], integers[i + 3]}, Floats);
    products += load<Floats>(&group[i]) * q;
    squares += q * q;
  }
  const float square = (squares[0] + squares[1]) + (squares[2] + squares[3]);
  return square > 0 ? ((products[0] + products[1]) + (products[2] + products[3])) / square : 0.0f;
}

void check_supported(const TensorType& type, const Quantized& q) {
  const bool known = (q.bits == 8 || q.bits == 4) && q.scale_dtype == DType::f16 && !q.zero_points &&
                     q.group_size % 8 == 0 && q.group_size <= kMaxGroup &&
                     (type.dtype == DType::bf16 || type.dtype == DType::f32);
  if (!known || type.shape.rank() < 2)
    fail(ErrorCode::unsupported, "weights as ", to_string(type),
         ": expected matrices of bf16 or f32 in 8 or 4 bits with f16 scales for groups of at most ", kMaxGroup);
}

void read_row(const std::byte* row, DType dtype, std::int64_t first, std::int64_t count, float* out) {
  if (dtype == DType::f32) {
    std::memcpy(out, row + first * 4, static_cast<std::size_t>(count) * 4);
    return;
  }
  const std::byte* from = row + first * 2;
  std::int64_t i = 0;
  for (; i + std::int64_t{kLanes} <= count; i += kLanes) {
    const Ints bits = __builtin_convertvector(load<Words>(from + i * 2), Ints) << 16;
    std::memcpy(out + i, &bits, sizeof bits);
  }
  for (; i < count; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, from + i * 2, sizeof bits);
    out[i] = bf16_to_float(bits);
  }
}

void write_element(std::byte* row, DType dtype, std::int64_t at, float value) {
  if (dtype == DType::f32) {
    std::memcpy(row + at * 4, &value, sizeof value);
  } else {
    const std::uint16_t bits = float_to_bf16(value);
    std::memcpy(row + at * 2, &bits, sizeof bits);
  }
}

void store_group(const QuantizedLayout& l, std::int64_t n, std::int64_t group, float scale, const std::int8_t* integers,
                 std::byte* matrix) {
  const std::uint16_t bits = float_to_f16(scale);
  std::memcpy(matrix + l.scale_at(n, group), &bits, sizeof bits);
  const std::int64_t step = l.storage.bits == 8 ? 4 : 8;
  // Four bytes at once, their offsets added without a carry: +128 flips the highest bit, +8 that of a half.
  std::byte* out = matrix + l.integer_at(n, group, 0);
  for (std::int64_t k = 0; k < l.storage.group_size; k += step, out += std::int64_t{4} * l.storage.tile_rows) {
    std::uint32_t four, next;
    std::memcpy(&four, integers + k, sizeof four);
    if (step == 4) {
      four ^= 0x80808080u;
    } else {
      std::memcpy(&next, integers + k + 4, sizeof next);
      four = ((four & 0x0f0f0f0fu) | (next & 0x0f0f0f0fu) << 4) ^ 0x88888888u;
    }
    std::memcpy(out, &four, sizeof four);
  }
}

void pack_row(const TensorType& type, const QuantizedLayout& l, std::int64_t n, const std::byte* row,
              std::byte* matrix) {
  std::array<float, kMaxGroup> values;
  std::array<std::int8_t, kMaxGroup> integers;
  const std::int64_t size = l.storage.group_size;
  for (std::int64_t g = 0; g < l.groups(); ++g) {
    const std::int64_t count = std::min(size, l.columns - g * size);
    if (count < size) values.fill(0.0f);
    read_row(row, type.dtype, g * size, count, values.data());
    const float scale =
        quantize_group({values.data(), static_cast<std::size_t>(size)}, l.storage.bits, integers.data());
    if (!std::isfinite(scale))
      fail(ErrorCode::data_loss, "weights of row ", n, " from column ", g * size,
           " on are not finite, or too large for ", l.storage.bits, " bits with f16 scales",
           remedy("check the checkpoint, or load it with --quantization none"));
    store_group(l, n, g, scale, integers.data(), matrix);
  }
}

void zero_row(const QuantizedLayout& l, std::int64_t n, std::byte* matrix) {
  const std::array<std::int8_t, kMaxGroup> zeros{};
  for (std::int64_t g = 0; g < l.groups(); ++g) store_group(l, n, g, 0.0f, zeros.data(), matrix);
}

void unpack_row(const TensorType& type, const QuantizedLayout& l, std::int64_t n, const std::byte* matrix,
                std::byte* row) {
  for (std::int64_t k = 0; k < l.columns; ++k) {
    const std::int64_t group = k / l.storage.group_size;
    const auto q = static_cast<float>(quantized_integer(l, matrix, n, group, k % l.storage.group_size));
    write_element(row, type.dtype, k, q * quantized_scale(l, matrix, n, group));
  }
}

// Calls body(row of its matrix, offset of the matrix, number of the row in the request) for each row.
template <class Body>
void for_each_row(const TensorType& type, const QuantizedLayout& l, std::int64_t first_row, std::int64_t num_rows,
                  const Body& body) {
  for (std::int64_t i = 0; i < num_rows; ++i) {
    const std::int64_t matrix = (first_row + i) / l.rows, n = (first_row + i) % l.rows;
    CAJAL_CHECK(first_row >= 0 && static_cast<std::size_t>((matrix + 1) * l.matrix_bytes()) <= type.bytes(), "row ",
                first_row + i, " of ", to_string(type));
    body(n, matrix * l.matrix_bytes(), i);
  }
}

QuantizedLayout layout_of(const TensorType& type) {
  check_supported(type, *type.quantized());
  return {*type.quantized(), type.shape[-2], type.shape[-1]};
}

}  // namespace

int quantized_integer(const QuantizedLayout& layout, const std::byte* matrix, std::int64_t n, std::int64_t group,
                      std::int64_t k) {
  const auto byte = static_cast<int>(matrix[layout.integer_at(n, group, k)]);
  if (layout.storage.bits == 8) return byte - kInt8Offset;
  return (k % 8 < 4 ? byte & 15 : byte >> 4) - kInt4Offset;
}

float quantized_scale(const QuantizedLayout& layout, const std::byte* matrix, std::int64_t n, std::int64_t group) {
  std::uint16_t bits;
  std::memcpy(&bits, matrix + layout.scale_at(n, group), sizeof bits);
  return f16_to_float(bits);
}

float quantize_group(std::span<const float> group, int bits, std::int8_t* integers) {
  const std::uint32_t magnitude = largest_magnitude(group);
  if (magnitude >= 0x7f800000u) return NAN;
  float largest = std::bit_cast<float>(magnitude);
  if (bits == 4 && largest != 0)
    largest = *std::find_if(group.begin(), group.end(), [&](float v) { return std::fabs(v) == largest; });
  float scale = as_f16(bits == 8 ? largest / 127.0f : largest / -8.0f);
  if (!std::isfinite(scale)) return scale;
  if (bits == 8) {
    round_group(group, scale, -127.0f, 127.0f, integers);
    return scale;
  }
  round_group(group, scale, -8.0f, 7.0f, integers);
  scale = as_f16(best_scale(group, integers));
  round_group(group, scale, -8.0f, 7.0f, integers);
  return scale;
}

void pack_quantized_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* rows,
                         std::byte* stored) {
  const QuantizedLayout l = layout_of(type);
  const std::int64_t row_bytes = l.columns * static_cast<std::int64_t>(size_of(type.dtype));
  for_each_row(type, l, first_row, num_rows, [&](std::int64_t n, std::int64_t matrix, std::int64_t i) {
    pack_row(type, l, n, rows + i * row_bytes, stored + matrix);
    if (n + 1 < l.rows) return;
    for (std::int64_t padding = l.rows; padding < l.tiles() * l.storage.tile_rows; ++padding)
      zero_row(l, padding, stored + matrix);
  });
}

void unpack_quantized_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows,
                           const std::byte* stored, std::byte* rows) {
  const QuantizedLayout l = layout_of(type);
  const std::int64_t row_bytes = l.columns * static_cast<std::int64_t>(size_of(type.dtype));
  for_each_row(type, l, first_row, num_rows, [&](std::int64_t n, std::int64_t matrix, std::int64_t i) {
    unpack_row(type, l, n, stored + matrix, rows + i * row_bytes);
  });
}

}  // namespace cajal
