#include "tensor/quantized.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

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

// Of the largest group of a row in 4 bits at most: a scale of least squared error may be above the largest magnitude / 8.
constexpr int kMostScaleOfLargest = 120;

// The bits of the largest magnitude, those of an infinity or more if a number is not finite.
std::uint32_t largest_magnitude(std::span<const float> group) {
  Ints most{};
  for (std::size_t i = 0; i < group.size(); i += kLanes) {
    const Ints magnitude = load<Ints>(&group[i]) & 0x7fffffff;
    most = magnitude > most ? magnitude : most;
  }
  return static_cast<std::uint32_t>(std::max(std::max(most[0], most[1]), std::max(most[2], most[3])));
}

// integers = group / scale to nearest, within [lowest, highest]; returns the sum of the squared errors.
float round_group(std::span<const float> group, float scale, float lowest, float highest, std::int8_t* integers) {
  const Floats inverse = all_of(1.0f / scale), least = all_of(lowest), most = all_of(highest);
  Floats errors{};
  for (std::size_t i = 0; i < group.size(); i += kLanes) {
    Floats v = load<Floats>(&group[i]) * inverse;
    v = v < least ? least : v;
    v = v > most ? most : v;
    // The lowest bits of such a sum are the integer's.
    const Floats shifted = v + all_of(kRound);
    const Floats error = load<Floats>(&group[i]) - (shifted - all_of(kRound)) * all_of(scale);
    errors += error * error;
    std::uint64_t pairs[2];
    std::memcpy(pairs, &shifted, sizeof shifted);
    for (std::size_t j = 0; j < 2; ++j) {
      const auto two = static_cast<std::uint16_t>((pairs[j] & 0xff) | (pairs[j] >> 24 & 0xff00));
      std::memcpy(integers + i + 2 * j, &two, sizeof two);
    }
  }
  return (errors[0] + errors[1]) + (errors[2] + errors[3]);
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
  const bool known = (q.bits == 8 || q.bits == 4) && q.scale_dtype == DType::i8 && !q.zero_points &&
                     q.group_size % 8 == 0 && q.group_size <= kMaxGroup &&
                     (type.dtype == DType::bf16 || type.dtype == DType::f32);
  if (!known || type.shape.rank() < 2)
    fail(ErrorCode::unsupported, "weights as ", to_string(type),
         ": expected matrices of bf16 or f32 in 8 or 4 bits with i8 scales for groups of at most ", kMaxGroup);
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

void store_group(const QuantizedLayout& l, std::int64_t n, std::int64_t group, int scale, const std::int8_t* integers,
                 std::byte* matrix) {
  matrix[l.scale_at(n, group)] = static_cast<std::byte>(scale);
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

void zero_row(const QuantizedLayout& l, std::int64_t n, std::byte* matrix) {
  const std::array<std::int8_t, kMaxGroup> zeros{};
  for (std::int64_t g = 0; g < l.groups(); ++g) store_group(l, n, g, 1, zeros.data(), matrix);
  matrix[l.exponent_at(n)] = std::byte{0};
}

[[noreturn]] void refuse_row(const TensorType& type, const QuantizedLayout& l, std::int64_t n, const std::byte* row) {
  const auto element = static_cast<std::int64_t>(size_of(type.dtype)), size = std::int64_t{l.storage.group_size};
  std::int64_t at = 0;
  const auto fits = [&](std::int64_t first) {
    return largest_of_row(type.dtype, row + first * element, std::min(size, l.columns - first)) < kTooLargeWeight;
  };
  while (at < l.columns && fits(at)) at += size;
  const std::string where = at < l.columns ? detail::join(" from column ", at, " on") : "";
  fail(ErrorCode::data_loss, "weights of row ", n, where, " are not finite, or too large for ", l.storage.bits, " bits",
       remedy("check the checkpoint, or load it with --quantization none"));
}

void pack_row(const TensorType& type, const QuantizedLayout& l, std::int64_t n, const std::byte* row, float largest,
              std::byte* matrix) {
  std::array<float, kMaxGroup> values;
  std::array<std::int8_t, kMaxGroup> integers;
  const std::int64_t size = l.storage.group_size;
  if (!(largest < kTooLargeWeight)) refuse_row(type, l, n, row);
  const std::optional<int> exponent = choose_exponent(largest, l.storage.bits);
  if (!exponent) return zero_row(l, n, matrix);
  const float row_scale = std::ldexp(1.0f, *exponent);
  for (std::int64_t g = 0; g < l.groups(); ++g) {
    const std::int64_t count = std::min(size, l.columns - g * size);
    if (count < size) values.fill(0.0f);
    read_row(row, type.dtype, g * size, count, values.data());
    const int scale =
        quantize_group({values.data(), static_cast<std::size_t>(size)}, row_scale, l.storage.bits, integers.data());
    store_group(l, n, g, scale, integers.data(), matrix);
  }
  matrix[l.exponent_at(n)] = static_cast<std::byte>(*exponent);
}

void unpack_row(const TensorType& type, const QuantizedLayout& l, std::int64_t n, const std::byte* matrix,
                std::byte* row) {
  const float row_scale = quantized_row_scale(l, matrix, n);
  for (std::int64_t k = 0; k < l.columns; ++k) {
    const std::int64_t group = k / l.storage.group_size;
    const int q = quantized_integer(l, matrix, n, group, k % l.storage.group_size);
    write_element(row, type.dtype, k, static_cast<float>(q * quantized_scale(l, matrix, n, group)) * row_scale);
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

int quantized_scale(const QuantizedLayout& layout, const std::byte* matrix, std::int64_t n, std::int64_t group) {
  return static_cast<std::int8_t>(matrix[layout.scale_at(n, group)]);
}

float quantized_row_scale(const QuantizedLayout& layout, const std::byte* matrix, std::int64_t n) {
  return std::ldexp(1.0f, static_cast<std::int8_t>(matrix[layout.exponent_at(n)]));
}

float largest_of_row(DType dtype, const std::byte* row, std::int64_t columns) {
  std::array<float, kMaxGroup> values{};
  std::uint32_t most = 0;
  for (std::int64_t k = 0; k < columns; k += kMaxGroup) {
    const std::int64_t count = std::min(kMaxGroup, columns - k);
    if (count < kMaxGroup) values.fill(0.0f);
    read_row(row, dtype, k, count, values.data());
    most = std::max(most, largest_magnitude(values));
  }
  return std::bit_cast<float>(most);
}

std::optional<int> choose_exponent(float largest, int bits) {
  int exponent = 0;
  const double fraction =
      std::frexp(static_cast<double>(largest) / (bits == 8 ? 127 * kMostScale : 8 * kMostScaleOfLargest), &exponent);
  if (fraction == 0.5) --exponent;
  if (largest == 0 || exponent < kLeastRowExponent) return std::nullopt;
  return exponent;
}

int quantize_group(std::span<const float> group, float row_scale, int bits, std::int8_t* integers) {
  const float largest = std::bit_cast<float>(largest_magnitude(group)), lowest = bits == 8 ? -127.0f : -8.0f;
  const float highest = bits == 8 ? 127.0f : 7.0f;
  if (largest * 2 < row_scale) {
    std::fill_n(integers, group.size(), std::int8_t{0});
    return 1;
  }
  const auto scale_near = [&](double u) {
    const double magnitude = std::clamp(std::fabs(u), 1.0, double{kMostScale});
    return static_cast<int>(std::copysign(magnitude, u));
  };
  std::array<int, 3> tries{};
  std::size_t num_tries = 2;
  if (bits == 8) {
    const double least = std::ceil(static_cast<double>(largest) / (127.0 * static_cast<double>(row_scale)));
    tries = {scale_near(least), scale_near(least + 1)};
  } else {
    const float first = *std::find_if(group.begin(), group.end(), [&](float v) { return std::fabs(v) == largest; });
    round_group(group, first / -8.0f, lowest, highest, integers);
    const double best = std::nearbyint(static_cast<double>(best_scale(group, integers) / row_scale));
    const double step = std::max(1.0, std::nearbyint(std::fabs(best) / 16));
    tries = {scale_near(best), scale_near(best - step), scale_near(best + step)};
    num_tries = 3;
  }
  std::array<std::int8_t, kMaxGroup> tried;
  float least_error = INFINITY;
  int chosen = 1;
  for (const int u : std::span(tries).first(num_tries)) {
    const float error = round_group(group, static_cast<float>(u) * row_scale, lowest, highest, tried.data());
    if (!(error < least_error)) continue;
    least_error = error;
    chosen = u;
    std::copy_n(tried.begin(), group.size(), integers);
  }
  return chosen;
}

void pack_quantized_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* rows,
                         std::byte* stored, const float* largest) {
  const QuantizedLayout l = layout_of(type);
  const std::int64_t row_bytes = l.columns * static_cast<std::int64_t>(size_of(type.dtype));
  for_each_row(type, l, first_row, num_rows, [&](std::int64_t n, std::int64_t matrix, std::int64_t i) {
    const std::byte* const row = rows + i * row_bytes;
    pack_row(type, l, n, row, largest ? largest[i] : largest_of_row(type.dtype, row, l.columns), stored + matrix);
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
