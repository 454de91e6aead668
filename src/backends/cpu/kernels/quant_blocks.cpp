#include "backends/cpu/kernels/quant_blocks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "backends/cpu/kernels/fetch_output.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/sum_parts.h"

namespace cajal::cpu {
namespace {

constexpr int kMaxLevels = std::bit_width(static_cast<unsigned>(kMaxQuantSumParts));
// Bytes of each tile that are fetched before they are multiplied, and on a processor that follows streams.
constexpr std::int64_t kBytesAhead = 2048, kBytesAheadOfFollower = 64;
constexpr std::int64_t kRowsOfOneStream = 2;  // which are multiplied by a tile as fast as memory gives that to a thread
constexpr std::int64_t kMaxGroup = 128;

// Rows of x and tiles of the weight that are worked on together; see Place in linear_blocks.cpp.
struct Place : QuantPlace {
  const std::byte* next;
  bool cold;
  std::int64_t share, shares;
};

std::int64_t y_element_bytes(const QuantProduct& p) {
  return static_cast<std::int64_t>(p.partial ? sizeof(float) : size_of(p.dtype));
}
// The first output of the first row, and how many each row has.
std::byte* y_of(const QuantProduct& p, const QuantPlace& at) {
  return p.y + at.row * p.y_stride + at.tile * kQuantTileOutputs * y_element_bytes(p);
}
std::int64_t outputs_of(const QuantProduct& p, const QuantPlace& at) {
  return std::min<std::int64_t>(at.tiles * kQuantTileOutputs, p.out_features() - at.tile * kQuantTileOutputs);
}

struct Multiplier {
  Multiplier(const QuantBlockTable& blocks, const QuantProduct& product) : table(blocks), p(product) {}

  const QuantBlockTable& table;
  const QuantProduct& p;
  const int bits_index = p.layout.storage.bits == 8, group_index = p.layout.storage.group_size == 128;
  const std::int64_t group_bytes = p.layout.group_bytes(), tile_stride = p.layout.tile_bytes();
  const std::int64_t groups = p.layout.groups(), x_group = p.x_layout().group_bytes();
  const std::int64_t ahead = std::min(ceil_div(kBytesAhead, group_bytes), groups);
  // A tree of sums in the making: level i holds a sum that waits for its sibling.
  alignas(64) float sums[kMaxLevels][kQuantLevelStride];

  void run(const Place& at) {
    if (at.shares > 1) fetch_output(y_of(p, at), p.y_stride, at.rows, outputs_of(p, at) * y_element_bytes(p));
    const std::byte* x[kMaxQuantRows];
    for (int r = 0; r < at.rows; ++r) x[r] = p.x_of(at.row + r);
    const auto block = table.block[bits_index][group_index][at.rows - 1][at.tiles - 1];
    for (std::int32_t part = 0; part < p.sum_parts; ++part) {
      const auto [siblings, level] = part_of_sum(part);
      block(block_of(at, part, x, sums[level], siblings));
    }
    finish_quant_place(table, p, at, sums[0]);
  }

  QuantBlock block_of(const Place& at, std::int32_t part, const std::byte* const (&x)[kMaxQuantRows], float* into,
                      int siblings) const {
    const std::int64_t first = p.first_group(part), count = p.first_group(part + 1) - first;
    const std::byte* weight = p.weight + at.tile * tile_stride + first * group_bytes;
    QuantBlock b{.x = {},
                 .weight = weight,
                 .tile_stride = tile_stride,
                 .groups = count,
                 .sums = into,
                 .siblings = siblings,
                 .cold = at.cold,
                 .read_once = false,
                 .turn = std::clamp<std::int64_t>(groups - ahead - first, 0, count),
                 .fetch_step = group_bytes / at.shares + 1,
                 .fetch = weight + ahead * group_bytes,
                 .fetch_after_turn = nullptr};
    b.fetch_after_turn = at.next + (first + b.turn + ahead - groups) * group_bytes;
    if (at.cold && follows_streams()) {
      b.turn = count;
      b.read_once = p.read_once;
      b.fetch = weight + kBytesAheadOfFollower;
    }
    if (!at.cold) b.fetch = at.next + at.share * tile_stride / at.shares + first * b.fetch_step;
    for (int r = 0; r < at.rows; ++r) b.x[r] = x[r] + first * x_group;
    return b;
  }
};

void store_nans(const QuantProduct& p, const QuantPlace& at, int row) {
  for (std::int64_t i = 0; i < outputs_of(p, at); ++i)
    store_element(y_of(p, at) + row * p.y_stride, i, p.partial ? DType::f32 : p.dtype, NAN);
}

}  // namespace

void finish_quant_place(const QuantBlockTable& table, const QuantProduct& p, const QuantPlace& at, const float* sums) {
  const std::int64_t tile_stride = p.layout.tile_bytes();
  // Exponents are not fetched ahead of the stream that they end: asking for lines so far from it slows it down by some per cent.
  table.finish({.sums = sums,
                .exponents = p.weight + at.tile * tile_stride + p.layout.groups() * p.layout.group_bytes(),
                .tile_stride = tile_stride,
                .bias = p.bias && !p.partial ? p.bias + at.tile * kQuantTileOutputs * y_element_bytes(p) : nullptr,
                .y = y_of(p, at),
                .y_stride = p.y_stride,
                .outputs = outputs_of(p, at),
                .rows = at.rows,
                .dtype = p.partial ? DType::f32 : p.dtype});
  for (int r = 0; r < at.rows; ++r)
    if (!p.x_layout().finite(p.x_of(at.row + r))) store_nans(p, at, r);
}

int quant_tiles_at_once(const QuantBlockTable& table, std::int64_t rows) {
  const auto& blocks = table.block[0][0][std::min<std::int64_t>(rows, table.best_rows) - 1];
  int tiles = kMaxQuantTiles;
  while (!blocks[tiles - 1]) --tiles;
  return tiles;
}

void multiply_quant_tiles(const QuantBlockTable& table, const QuantProduct& product, const QuantTileRange& range) {
  const std::int64_t rows = range.row_end - range.row_begin;
  if (rows <= 0) return;
  CAJAL_CHECK(product.sum_parts >= 1 && product.sum_parts <= kMaxQuantSumParts &&
                  std::has_single_bit(static_cast<unsigned>(product.sum_parts)),
              "a sum in ", product.sum_parts, " parts");
  Multiplier multiplier(table, product);
  // One tile after the other is one stream, which a processor that follows streams reads faster than two short ones.
  const int step = follows_streams() && rows <= kRowsOfOneStream ? 1 : quant_tiles_at_once(table, rows);
  // Blocks of nearly equal height, rather than a low one at the end.
  const std::int64_t blocks = ceil_div<std::int64_t>(rows, table.best_rows);
  for (std::int64_t tile = range.tile_begin; tile < range.tile_end; tile += step) {
    const int tiles = static_cast<int>(std::min<std::int64_t>(step, range.tile_end - tile));
    const std::byte* weight = product.weight + tile * multiplier.tile_stride;
    const std::byte* after = range.weight_after ? range.weight_after : weight;
    const std::byte* next = tile + tiles < range.tile_end ? weight + tiles * multiplier.tile_stride : after;
    const bool first = tile == range.tile_begin && !range.fetched;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::int64_t begin = rows * b / blocks, end = rows * (b + 1) / blocks;
      multiplier.run(
          {{.row = range.row_begin + begin, .tile = tile, .rows = static_cast<int>(end - begin), .tiles = tiles},
           next,
           blocks == 1 || (b == 0 && first),
           b,
           blocks});
    }
  }
}

bool RoundedRow::finite(const std::byte* row) const {
  std::int32_t finite;
  std::memcpy(&finite, row + finite_at(), sizeof finite);
  return finite != 0;
}

void round_row(const QuantBlockTable& table, const RoundedRow& layout, DType dtype, int bits, const std::byte* row,
               std::byte* out) {
  const std::int64_t element = static_cast<std::int64_t>(size_of(dtype)), size = layout.group_size;
  const std::int64_t whole = layout.columns / size;
  const int offset = quantized_offset(bits);
  std::int32_t finite = 1;
  for (std::int64_t g = 0; g < whole; ++g)
    finite &= table.round_group(row + g * size * element, dtype, size, offset, out + g * layout.group_bytes());
  if (whole < layout.groups()) {
    std::byte padded[kMaxGroup * sizeof(float)] = {};
    std::memcpy(padded, row + whole * size * element, static_cast<std::size_t>(layout.columns % size * element));
    finite &= table.round_group(padded, dtype, size, offset, out + whole * layout.group_bytes());
  }
  std::memcpy(out + layout.finite_at(), &finite, sizeof finite);
}

bool round_group_ref(const std::byte* group, DType dtype, std::int64_t size, int offset, std::byte* out) {
  float numbers[kMaxGroup];
  std::uint32_t largest = 0;  // bits of the magnitude: above those of an infinity for a NaN
  for (std::int64_t i = 0; i < size; ++i) {
    numbers[i] = load_element(group, i, dtype);
    largest = std::max(largest, std::bit_cast<std::uint32_t>(numbers[i]) & 0x7fffffffu);
  }
  const bool finite = largest < std::bit_cast<std::uint32_t>(kLargestActivation);
  const bool rounds = activations_round(largest);
  const std::int32_t k = rounds ? activation_exponent(largest) : 0;
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const auto q = static_cast<std::int32_t>(rounds ? std::nearbyint(numbers[i] * power_of_two(-k)) : 0.0f);
    out[i] = static_cast<std::byte>(q);
    sum += q;
  }
  end_group(out + size, k, -offset * sum);
  return finite;
}

bool is_quant_storage(const Storage& storage, DType dtype) {
  const auto* q = std::get_if<Quantized>(&storage);
  return q && (dtype == DType::bf16 || dtype == DType::f32) && (q->bits == 8 || q->bits == 4) &&
         (q->group_size == 32 || q->group_size == 128) && q->scale_dtype == DType::i8 && !q->zero_points &&
         q->tile_rows == kQuantTileOutputs;
}

}  // namespace cajal::cpu
