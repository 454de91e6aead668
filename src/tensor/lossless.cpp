#include "tensor/lossless.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace cajal {
namespace {

using Layout = LosslessLayout;
constexpr std::uint8_t kEscaped = 0xff;

// Up to 16 rows of a matrix, dense. Where columns are odd, kernels multiply one more, of zeros.
struct TileRows {
  const std::byte* rows;
  std::int64_t count, columns;

  std::int64_t even_columns() const { return columns + columns % 2; }
  std::uint16_t bits(std::int64_t n, std::int64_t k) const {
    std::uint16_t bits = 0;
    if (k < columns) std::memcpy(&bits, rows + (n * columns + k) * 2, sizeof bits);
    return bits;
  }
};

struct Codes {
  std::array<std::uint8_t, 16> table;
  std::array<std::uint8_t, 256> code_of;
  std::int64_t escapes;  // weights that the table lacks
};

Codes choose_codes(const TileRows& tile) {
  // Two counts, since the same byte often comes twice in a row.
  std::array<std::array<std::int64_t, 256>, 2> counts{};
  for (std::int64_t n = 0; n < tile.count; ++n)
    for (std::int64_t k = 0; k < tile.even_columns(); ++k)
      ++counts[static_cast<std::size_t>(k % 2)][tile.bits(n, k) >> 8];
  for (std::size_t i = 0; i < 256; ++i) counts[0][i] += counts[1][i];
  std::array<std::uint8_t, 256> order;
  std::iota(order.begin(), order.end(), std::uint8_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint8_t a, std::uint8_t b) { return counts[0][a] > counts[0][b]; });
  Codes codes{};
  codes.code_of.fill(kEscaped);
  codes.escapes = tile.count * tile.even_columns();
  for (std::size_t i = 0; i < codes.table.size(); ++i) {
    codes.table[i] = order[i];
    codes.code_of[order[i]] = static_cast<std::uint8_t>(i);
    codes.escapes -= counts[0][order[i]];
  }
  return codes;
}

// Low bytes and codes of the eight columns from `k` on; calls escaped(place within the unit, high byte).
template <class Escaped>
void pack_unit(const TileRows& tile, const Codes& codes, std::int64_t k, std::byte* unit, const Escaped& escaped) {
  std::array<std::uint8_t, Layout::kUnitWeights> low{}, code{};
  const std::int64_t columns = std::min(Layout::kUnitColumns, tile.even_columns() - k);
  for (std::int64_t n = 0; n < tile.count; ++n)
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::uint16_t bits = tile.bits(n, k + j);
      const auto at = static_cast<std::size_t>(Layout::place(n, j));
      const std::uint8_t c = codes.code_of[bits >> 8];
      low[at] = static_cast<std::uint8_t>(bits & 0xff);
      code[at] = c & 15;
      if (c == kEscaped) escaped(at, static_cast<std::uint8_t>(bits >> 8));
    }
  std::memcpy(unit, low.data(), low.size());
  for (std::size_t b = 0; b < 64; ++b)
    unit[Layout::kLowBytes + b] = static_cast<std::byte>(code[b] | code[64 + b] << 4);
}

void pack_tile(const Layout& l, std::int64_t first_row, const TileRows& tile, std::byte* out) {
  const Codes codes = choose_codes(tile);
  if (codes.escapes > l.max_escapes())
    fail(ErrorCode::unsupported, "rows from ", first_row, " on: ", codes.escapes, " of ", tile.count * tile.columns,
         " weights have none of the 16 commonest high bytes, and lossless storage has room for ", l.max_escapes(),
         remedy("leave these weights as they are, as in --quantization-overrides lm_head=none"));
  std::memcpy(out, codes.table.data(), codes.table.size());
  std::byte* const escapes = out + Layout::kTableBytes;
  std::memset(escapes, 0xff, static_cast<std::size_t>(l.head_bytes() - Layout::kTableBytes));
  std::int64_t count = 0;
  for (std::int64_t u = 0; u < l.units(); ++u) {
    const std::int64_t first = count;
    pack_unit(tile, codes, u * Layout::kUnitColumns, out + l.head_bytes() + u * Layout::kUnitBytes,
              [&](std::size_t at, std::uint8_t high) {
                const auto place =
                    static_cast<std::uint32_t>(u * Layout::kUnitWeights) + static_cast<std::uint32_t>(at);
                const std::uint32_t escape = place << 8 | high;
                std::memcpy(escapes + 4 * count++, &escape, sizeof escape);
              });
    // A unit is read row by row, and its places go by columns too.
    auto* const list = reinterpret_cast<std::uint32_t*>(escapes);
    if (count - first > 1) std::sort(list + first, list + count);
  }
}

Layout layout_of(const TensorType& type) {
  CAJAL_CHECK(type.dtype == DType::bf16 && type.shape.rank() >= 2 && type.shape[-1] <= Layout::kMaxColumns,
              "lossless storage of ", to_string(type));
  return {type.shape[-2], type.shape[-1]};
}

// Calls body(offset of the tile, its first row in the matrix, its first row asked for, one behind the last, bytes from the
// first row asked for).
template <class Body>
void for_each_tile(const TensorType& type, const Layout& l, std::int64_t first_row, std::int64_t num_rows,
                   const Body& body) {
  if (l.rows == 0) return;
  CAJAL_CHECK(first_row >= 0 &&
                  static_cast<std::size_t>(ceil_div(first_row + num_rows, l.rows) * l.matrix_bytes()) <= type.bytes(),
              "rows ", first_row, "..", first_row + num_rows, " of ", to_string(type));
  for (std::int64_t done = 0; done < num_rows;) {
    const std::int64_t matrix = (first_row + done) / l.rows, n = (first_row + done) % l.rows;
    const std::int64_t tile = n / Layout::kTileRows;
    const std::int64_t end = std::min({(tile + 1) * Layout::kTileRows, l.rows, n + num_rows - done});
    body(matrix * l.matrix_bytes() + tile * l.tile_bytes(), n, end, done * l.columns * 2);
    done += end - n;
  }
}

}  // namespace

bool lossless_tiles_are_sound(const TensorType& type, const std::byte* stored) {
  const Layout l = layout_of(type);
  bool sound = true;
  for_each_tile(type, l, 0, type.shape.elements() / l.columns,
                [&](std::int64_t offset, std::int64_t, std::int64_t, std::int64_t) {
                  const std::byte* next = stored + offset + Layout::kTableBytes;
                  std::int64_t last = -1;
                  for (std::int64_t i = 0; i <= l.max_escapes(); ++i, next += sizeof(std::uint32_t)) {
                    std::uint32_t escape;
                    std::memcpy(&escape, next, sizeof escape);
                    if (escape == kNoEscape) return;
                    const std::int64_t place = escape >> 8;
                    if (place <= last || place >= l.units() * Layout::kUnitWeights) break;
                    last = place;
                  }
                  sound = false;
                });
  return sound;
}

void read_lossless_row(const LosslessLayout& l, const std::byte* tile, std::int64_t n, std::byte* row) {
  const auto put = [row](std::int64_t k, unsigned low, unsigned high) {
    const auto bits = static_cast<std::uint16_t>(high << 8 | low);
    std::memcpy(row + k * 2, &bits, sizeof bits);
  };
  for (std::int64_t k = 0; k < l.columns; ++k) {
    const std::byte* const unit = l.unit(tile, k / Layout::kUnitColumns);
    const std::int64_t at = Layout::place(n, k % Layout::kUnitColumns);
    const auto pair = static_cast<unsigned>(unit[Layout::kLowBytes + at % 64]);
    put(k, static_cast<unsigned>(unit[at]), static_cast<unsigned>(tile[at < 64 ? pair & 15 : pair >> 4]));
  }
  std::uint32_t escape;
  for (const std::byte* e = tile + Layout::kTableBytes; std::memcpy(&escape, e, sizeof escape), escape != kNoEscape;
       e += sizeof escape) {
    const std::int64_t place = escape >> 8, k = Layout::column_of(place);
    if (Layout::row_of(place) != n || k >= l.columns) continue;
    const std::byte* const unit = l.unit(tile, place / Layout::kUnitWeights);
    put(k, static_cast<unsigned>(unit[place % Layout::kUnitWeights]), escape & 0xff);
  }
}

void pack_lossless_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows, const std::byte* rows,
                        std::byte* stored) {
  const Layout l = layout_of(type);
  for_each_tile(type, l, first_row, num_rows,
                [&](std::int64_t offset, std::int64_t n, std::int64_t end, std::int64_t from) {
                  CAJAL_CHECK(n % Layout::kTileRows == 0 && (end % Layout::kTileRows == 0 || end == l.rows), "rows ", n,
                              "..", end, " of ", to_string(type), " are no whole tile");
                  pack_tile(l, n, {rows + from, end - n, l.columns}, stored + offset);
                });
}

void unpack_lossless_rows(const TensorType& type, std::int64_t first_row, std::int64_t num_rows,
                          const std::byte* stored, std::byte* rows) {
  const Layout l = layout_of(type);
  for_each_tile(type, l, first_row, num_rows,
                [&](std::int64_t offset, std::int64_t n, std::int64_t end, std::int64_t to) {
                  for (std::int64_t i = n; i < end; ++i)
                    read_lossless_row(l, stored + offset, i % Layout::kTileRows, rows + to + (i - n) * l.columns * 2);
                });
}

}  // namespace cajal
