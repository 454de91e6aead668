#include "tensor/pack.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "tensor/lossless.h"
#include "tensor/quantized.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#include <xmmintrin.h>
#endif

namespace cajal {
namespace {

// The matrices of a packed tensor, in bytes where a name says so.
struct Layout {
  Packed packed;
  std::int64_t rows, columns, padded_rows, padded_columns;  // of one matrix
  std::int64_t element_bytes;

  explicit Layout(const TensorType& type, const Packed& p) : packed(p) {
    CAJAL_CHECK(type.shape.rank() >= 2, "packed storage of ", to_string(type));
    rows = type.shape[-2];
    columns = type.shape[-1];
    padded_rows = round_up<std::int64_t>(rows, p.rows);
    padded_columns = round_up<std::int64_t>(columns, p.group);
    element_bytes = static_cast<std::int64_t>(size_of(type.dtype));
  }
  std::int64_t row_bytes() const { return columns * element_bytes; }
  std::int64_t matrix_bytes() const { return padded_rows * padded_columns * element_bytes; }
  std::int64_t tile_bytes() const { return packed.rows * padded_columns * element_bytes; }
  // Of a row, what one group takes, in memory one piece in plain and in packed storage alike.
  std::int64_t group_bytes() const { return packed.group * element_bytes; }
  std::int64_t offset(std::int64_t n, std::int64_t k) const {
    return packed_index(packed, padded_columns, n, k) * element_bytes;
  }
};

void pack_row(const Layout& l, std::int64_t n, const std::byte* row, std::byte* matrix) {
  const std::int64_t step = l.packed.rows * l.group_bytes();
  std::byte* out = matrix + l.offset(n, 0);
  for (std::int64_t at = 0; at < l.row_bytes(); at += l.group_bytes(), out += step) {
    const std::int64_t bytes = std::min(l.group_bytes(), l.row_bytes() - at);
    std::memcpy(out, row + at, static_cast<std::size_t>(bytes));
    std::memset(out + bytes, 0, static_cast<std::size_t>(l.group_bytes() - bytes));
  }
}

void unpack_row(const Layout& l, std::int64_t n, const std::byte* matrix, std::byte* row) {
  const std::int64_t step = l.packed.rows * l.group_bytes();
  const std::byte* in = matrix + l.offset(n, 0);
  for (std::int64_t at = 0; at < l.row_bytes(); at += l.group_bytes(), in += step)
    std::memcpy(row + at, in, static_cast<std::size_t>(std::min(l.group_bytes(), l.row_bytes() - at)));
}

void zero_row(const Layout& l, std::int64_t n, std::byte* matrix) {
  const std::int64_t step = l.packed.rows * l.group_bytes();
  std::byte* out = matrix + l.offset(n, 0);
  for (std::int64_t k = 0; k < l.padded_columns; k += l.packed.group, out += step)
    std::memset(out, 0, static_cast<std::size_t>(l.group_bytes()));
}

#if defined(__x86_64__)

// Four groups of four bytes each of four rows: to [group][row], rows `out_stride` bytes apart.
void transpose_4x4(const std::byte* rows, std::int64_t row_bytes, std::byte* out, std::int64_t out_stride) {
  const auto load = [&](std::int64_t i) { return _mm_loadu_ps(reinterpret_cast<const float*>(rows + i * row_bytes)); };
  __m128 a = load(0), b = load(1), c = load(2), d = load(3);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  const auto store = [&](std::int64_t i, __m128 v) {
    _mm_storeu_ps(reinterpret_cast<float*>(out + i * out_stride), v);
  };
  store(0, a), store(1, b), store(2, c), store(3, d);
}

// A whole tile whose groups have four bytes (bf16 by 2, f32 by 1): a transposition of 32-bit words.
void pack_tile_of_words(const Layout& l, const std::byte* rows, std::byte* tile) {
  const std::int64_t whole = l.row_bytes() / 16 * 16, step = l.packed.rows * 4;
  for (std::int64_t at = 0; at < whole; at += 16)
    for (std::int64_t n = 0; n < l.packed.rows; n += 4)
      transpose_4x4(rows + n * l.row_bytes() + at, l.row_bytes(), tile + at / 4 * step + n * 4, step);
  for (std::int64_t at = whole; at < l.row_bytes(); at += 4) {
    const auto bytes = static_cast<std::size_t>(std::min<std::int64_t>(4, l.row_bytes() - at));
    for (std::int64_t n = 0; n < l.packed.rows; ++n) {
      std::byte word[4] = {};
      std::memcpy(word, rows + n * l.row_bytes() + at, bytes);
      std::memcpy(tile + at / 4 * step + n * 4, word, 4);
    }
  }
}

bool is_made_of_words(const Layout& l) { return l.group_bytes() == 4 && l.packed.rows % 4 == 0; }

#else

void pack_tile_of_words(const Layout&, const std::byte*, std::byte*) {}
bool is_made_of_words(const Layout&) { return false; }

#endif

// Rows [n, n + count) of one matrix.
void pack_matrix_rows(const Layout& l, std::int64_t n, std::int64_t count, const std::byte* rows, std::byte* matrix) {
  const std::int64_t end = n + count;
  const bool words = is_made_of_words(l);
  while (n < end) {
    if (words && n % l.packed.rows == 0 && n + l.packed.rows <= end) {
      pack_tile_of_words(l, rows, matrix + n / l.packed.rows * l.tile_bytes());
      n += l.packed.rows;
      rows += l.packed.rows * l.row_bytes();
    } else {
      pack_row(l, n++, rows, matrix);
      rows += l.row_bytes();
    }
  }
  if (end == l.rows)
    for (std::int64_t padding = l.rows; padding < l.padded_rows; ++padding) zero_row(l, padding, matrix);
}

// Checks the request and calls body(layout, row of the matrix, count, bytes from the first row, offset of the matrix)
// for each matrix that it touches.
template <class Body>
void for_each_matrix(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const Body& body) {
  const Layout l(type, std::get<Packed>(type.storage));
  if (l.rows == 0 || num_rows == 0) return;
  const std::int64_t matrices = type.shape.elements() / std::max<std::int64_t>(1, l.rows * l.columns);
  CAJAL_CHECK(first_row >= 0 && num_rows >= 0 && (l.columns == 0 || first_row + num_rows <= matrices * l.rows), "rows ",
              first_row, "..", first_row + num_rows, " of ", to_string(type));
  for (std::int64_t done = 0; done < num_rows;) {
    const std::int64_t matrix = (first_row + done) / l.rows, n = (first_row + done) % l.rows;
    const std::int64_t count = std::min(num_rows - done, l.rows - n);
    body(l, n, count, done * l.row_bytes(), matrix * l.matrix_bytes());
    done += count;
  }
}

// Of plain storage: where the rows lie.
struct PlainRows {
  std::size_t offset, bytes;
};
PlainRows plain_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows) {
  const std::int64_t columns = type.shape.rank() == 0 ? 1 : type.shape[-1];
  const std::int64_t row_bytes = columns * static_cast<std::int64_t>(size_of(type.dtype));
  CAJAL_CHECK(
      first_row >= 0 && num_rows >= 0 && static_cast<std::size_t>((first_row + num_rows) * row_bytes) <= type.bytes(),
      "rows ", first_row, "..", first_row + num_rows, " of ", to_string(type));
  return {static_cast<std::size_t>(first_row * row_bytes), static_cast<std::size_t>(num_rows * row_bytes)};
}

}  // namespace

void pack_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* rows,
               std::byte* stored, const float* largest) {
  if (type.plain()) {
    const PlainRows at = plain_rows(type, first_row, num_rows);
    if (at.bytes) std::memcpy(stored + at.offset, rows, at.bytes);
    return;
  }
  if (type.quantized()) return pack_quantized_rows(type, first_row, num_rows, rows, stored, largest);
  if (type.lossless()) return pack_lossless_rows(type, first_row, num_rows, rows, stored);
  for_each_matrix(type, first_row, num_rows,
                  [&](const Layout& l, std::int64_t n, std::int64_t count, std::int64_t from, std::int64_t matrix) {
                    pack_matrix_rows(l, n, count, rows + from, stored + matrix);
                  });
}

void unpack_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* stored,
                 std::byte* rows) {
  if (type.plain()) {
    const PlainRows at = plain_rows(type, first_row, num_rows);
    if (at.bytes) std::memcpy(rows, stored + at.offset, at.bytes);
    return;
  }
  if (type.quantized()) return unpack_quantized_rows(type, first_row, num_rows, stored, rows);
  if (type.lossless()) return unpack_lossless_rows(type, first_row, num_rows, stored, rows);
  for_each_matrix(type, first_row, num_rows,
                  [&](const Layout& l, std::int64_t n, std::int64_t count, std::int64_t to, std::int64_t matrix) {
                    for (std::int64_t i = 0; i < count; ++i)
                      unpack_row(l, n + i, stored + matrix, rows + to + i * l.row_bytes());
                  });
}

std::int64_t rows_per_tile(const TensorType& type) {
  if (const Quantized* quantized = type.quantized()) return quantized->tile_rows;
  if (type.lossless()) return LosslessLayout::kTileRows;
  const auto* packed = std::get_if<Packed>(&type.storage);
  return packed ? packed->rows : 1;
}

}  // namespace cajal
