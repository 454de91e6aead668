#include "tensor/quantized.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace cajal {
namespace {

constexpr std::int64_t kMaxGroup = 128;

// To nearest, ties to even, for magnitudes below 2^22: at 1.5 * 2^23 a float's last bit is worth one.
float nearest(float v) {
  constexpr float kRound = 12582912.0f;
  return (v + kRound) - kRound;
}

float as_f16(float v) { return f16_to_float(float_to_f16(v)); }

// integers = group / scale to nearest, within [lowest, highest].
void round_group(std::span<const float> group, float scale, float lowest, float highest, std::int8_t* integers) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  for (std::size_t i = 0; i < group.size(); ++i)
    integers[i] = static_cast<std::int8_t>(nearest(std::clamp(group[i] * inverse, lowest, highest)));
}

// sum(w q) / sum(q q), in four interleaved sums that vector instructions can make.
float best_scale(std::span<const float> group, const std::int8_t* integers) {
  std::array<float, 4> products{}, squares{};
  for (std::size_t i = 0; i < group.size(); ++i) {
    const auto q = static_cast<float>(integers[i]);
    products[i % 4] += group[i] * q;
    squares[i % 4] += q * q;
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
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, row + (first + i) * 2, sizeof bits);
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
  for (std::int64_t k = 0; k < l.storage.group_size; k += step) {
    std::byte* out = matrix + l.integer_at(n, group, k);
    for (std::int64_t j = 0; j < 4; ++j) {
      const int low = integers[k + j] + quantized_offset(l.storage.bits);
      const int high = step == 8 ? integers[k + 4 + j] + kInt4Offset : 0;
      out[j] = static_cast<std::byte>(low | high << 4);
    }
  }
}

void pack_row(const TensorType& type, const QuantizedLayout& l, std::int64_t n, const std::byte* row,
              std::byte* matrix) {
  std::array<float, kMaxGroup> values;
  std::array<std::int8_t, kMaxGroup> integers;
  const std::int64_t size = l.storage.group_size;
  for (std::int64_t g = 0; g < l.groups(); ++g) {
    const std::int64_t count = std::min(size, l.columns - g * size);
    values.fill(0.0f);
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
  float largest = 0;
  bool finite = true;
  for (const float v : group) {
    finite = finite && std::isfinite(v);
    if (std::fabs(v) > std::fabs(largest)) largest = v;
  }
  if (!finite) return NAN;
  float scale = as_f16(bits == 8 ? std::fabs(largest) / 127.0f : largest / -8.0f);
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
