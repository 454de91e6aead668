#include "backends/cpu/kernels/linear_quant.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/kernels/linear_ref.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

// Where the kernels with tiles have what in their scratch: rounded rows, panels of them, and each thread's own; on lines.
struct TilesScratch {
  std::size_t rows, panels, threads, thread_bytes, bytes;
};
TilesScratch tiles_scratch(std::int64_t rows, std::int64_t columns, int group_size, int sum_parts, int threads) {
  const RoundedRow row{columns, group_size};
  const std::int64_t panels = ceil_div<std::int64_t>(rows, kPanelRows) * QuantPanels{columns, group_size}.panel_bytes();
  TilesScratch s{};
  s.panels = static_cast<std::size_t>(rows * row.bytes());
  s.threads = s.panels + static_cast<std::size_t>(panels);
  s.thread_bytes = QuantTileScratch::bytes(sum_parts);
  s.bytes = s.threads + static_cast<std::size_t>(threads) * s.thread_bytes + kLineBytes;
  return s;
}

QuantProduct product_of(const LinearArgs& a) {
  return {.x = a.scratch,
          .x_row = nullptr,
          .x_share = 1,
          .weight = a.weight,
          .bias = a.bias,
          .y = a.y,
          .y_stride = a.out_features * static_cast<std::int64_t>(a.partial ? sizeof(float) : size_of(a.dtype)),
          .rows = a.rows,
          .layout = {a.quantized, a.out_features, a.in_features},
          .sum_parts = a.sum_parts,
          .dtype = a.dtype,
          .partial = a.partial,
          .read_once = a.read_once};
}

const std::byte* weight_of(const QuantProduct& product, std::int64_t tile) {
  return tile < product.layout.tiles() ? product.weight + tile * product.layout.tile_bytes() : nullptr;
}

void round_rows(const QuantBlockTable& table, const LinearArgs& a, ThreadPool& pool) {
  const RoundedRow layout{a.in_features, a.quantized.group_size};
  const std::int64_t row_bytes = a.in_features * static_cast<std::int64_t>(size_of(a.dtype));
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      round_row(table, layout, a.dtype, a.quantized.bits, a.x + r * row_bytes, a.scratch + r * layout.bytes());
  };
  // A few rows take less time than waking other threads.
  constexpr std::int64_t kFewRows = 2;
  if (a.rows <= kFewRows)
    rows(0, a.rows);
  else
    pool.parallel_for(a.rows, 4, rows);
}

// Few rows: the weights come from memory once, several tiles of a thread at a time; pieces of tiles.
void stream_tiles(const QuantBlockTable& table, const QuantProduct& product, ThreadPool& pool) {
  const std::int64_t step = quant_tiles_at_once(table, product.rows), tiles = product.layout.tiles();
  const std::int64_t units = ceil_div(tiles, step);
  const std::int64_t most = std::max<std::int64_t>(1, (std::int64_t{512} << 10) / (step * product.layout.tile_bytes()));
  const std::int64_t grain = std::clamp<std::int64_t>(units / (4 * pool.size()), 1, most);
  pool.parallel_for_runs(units, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * step, stop = std::min(end * step, tiles);
    multiply_quant_tiles(table, product, {0, product.rows, first, stop, weight_of(product, stop)});
  });
}

// Many rows: a few tiles, which stay in a cache, times all rows of a chunk; as linear_tiles in linear.cpp.
void chunk_rows(const QuantBlockTable& table, const QuantProduct& product, ThreadPool& pool) {
  const std::int64_t step = quant_tiles_at_once(table, product.rows), tiles = product.layout.tiles();
  const std::int64_t units = ceil_div(tiles, step), wanted = ceil_div<std::int64_t>(12 * pool.size(), units);
  const std::int64_t chunks =
      std::clamp<std::int64_t>(wanted, 1, ceil_div<std::int64_t>(product.rows, 8 * table.best_rows));
  const std::int64_t grain = std::max<std::int64_t>(1, units / (8 * pool.size()));
  const auto first_tile = [&](std::int64_t piece) { return piece / chunks * grain * step; };
  pool.parallel_for(ceil_div(units, grain) * chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t chunk = i % chunks;
      multiply_quant_tiles(table, product,
                           {.row_begin = product.rows * chunk / chunks,
                            .row_end = product.rows * (chunk + 1) / chunks,
                            .tile_begin = first_tile(i),
                            .tile_end = std::min(first_tile(i) + grain * step, tiles),
                            .weight_after = weight_of(product, first_tile(i + pool.size())),
                            .fetched = i >= pool.size()});
    }
  });
}

// Many rows with tiles: one tile of weights or several neighbours in one piece, times some panels.
void multiply_panels(const QuantTiles& tiles, const QuantProduct& product, std::byte* scratch, std::size_t thread_bytes,
                     ThreadPool& pool) {
  constexpr std::int64_t kFewPanels = 4;  // for which unpacking takes a tenth of the time
  const std::int64_t count = product.layout.tiles(), panels = ceil_div<std::int64_t>(product.rows, kPanelRows);
  const std::int64_t wanted = ceil_div<std::int64_t>(4 * pool.size(), count);
  const std::int64_t chunks = std::clamp<std::int64_t>(wanted, 1, ceil_div(panels, kFewPanels));
  const std::int64_t grain = std::max<std::int64_t>(1, count / (8 * pool.size()));
  const auto first_tile = [&](std::int64_t piece) { return piece / chunks * grain; };
  const auto first_row = [&](std::int64_t chunk) {
    return std::min(panels * chunk / chunks * kPanelRows, product.rows);
  };
  pool.parallel_for(ceil_div(count, grain) * chunks, 1, [&](int thread, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const QuantTileRange range{.row_begin = first_row(i % chunks),
                                 .row_end = first_row(i % chunks + 1),
                                 .tile_begin = first_tile(i),
                                 .tile_end = std::min(first_tile(i) + grain, count),
                                 .weight_after = weight_of(product, first_tile(i + pool.size()))};
      tiles.multiply({tiles.blocks, product, range, scratch + static_cast<std::size_t>(thread) * thread_bytes});
    }
  });
}

float sum_parts_ref(const std::byte* rounded, const QuantProduct& p, const std::byte* matrix, std::int64_t n,
                    std::int64_t part, std::int64_t parts) {
  if (parts > 1) {
    const float low = sum_parts_ref(rounded, p, matrix, n, part, parts / 2);
    return low + sum_parts_ref(rounded, p, matrix, n, part + parts / 2, parts / 2);
  }
  const RoundedRow row = p.x_layout();
  float sum = 0;
  for (std::int64_t g = p.first_group(part); g < p.first_group(part + 1); ++g) {
    const std::byte* group = rounded + g * row.group_bytes();
    std::int32_t dot = 0;
    for (std::int64_t k = 0; k < row.group_size; ++k)
      dot += static_cast<std::int8_t>(group[k]) * quantized_integer(p.layout, matrix, n, g, k);
    std::int32_t exponent;
    std::memcpy(&exponent, group + row.group_size, sizeof exponent);
    const auto scale = static_cast<float>(quantized_scale(p.layout, matrix, n, g));
    sum = std::fma(static_cast<float>(dot), std::ldexp(scale, exponent >> 23), sum);
  }
  return sum * quantized_row_scale(p.layout, matrix, n);
}

}  // namespace

float quant_dot_ref(const std::byte* rounded, const QuantProduct& product, const std::byte* matrix, std::int64_t n) {
  return product.x_layout().finite(rounded) ? sum_parts_ref(rounded, product, matrix, n, 0, product.sum_parts) : NAN;
}

void round_row_ref(const RoundedRow& layout, DType dtype, int bits, const std::byte* row, std::byte* out) {
  constexpr QuantBlockTable kOnlyRounding{
      .best_rows = 1, .block = {}, .finish = nullptr, .round_group = round_group_ref};
  round_row(kOnlyRounding, layout, dtype, bits, row, out);
}

void run_quant_linear(const QuantBlockTable& table, const LinearArgs& a, ThreadPool& pool) {
  const QuantProduct product = product_of(a);
  round_rows(table, a, pool);
  if (a.rows <= table.best_rows)
    stream_tiles(table, product, pool);
  else
    chunk_rows(table, product, pool);
}

void run_quant_linear(const QuantTiles& tiles, const LinearArgs& args, ThreadPool& pool) {
  if (!tiles.take(args.rows, args.quantized.group_size)) return run_quant_linear(tiles.blocks, args, pool);
  LinearArgs a = args;
  a.scratch = on_line(args.scratch);
  const TilesScratch at = tiles_scratch(a.rows, a.in_features, a.quantized.group_size, a.sum_parts, pool.size());
  QuantProduct product = product_of(a);
  product.panels = a.scratch + at.panels;
  round_rows(tiles.blocks, a, pool);
  const QuantPanels layout{a.in_features, a.quantized.group_size};
  pool.parallel_for(ceil_div<std::int64_t>(a.rows, kPanelRows), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t panel = begin; panel < end; ++panel)
      layout.pack(product, panel, a.scratch + at.panels + panel * layout.panel_bytes());
  });
  multiply_panels(tiles, product, a.scratch + at.threads, at.thread_bytes, pool);
}

void run_quant_linear_ref(const LinearArgs& a, ThreadPool& pool) {
  const QuantProduct product = product_of(a);
  const RoundedRow layout = product.x_layout();
  const std::int64_t row_bytes = a.in_features * static_cast<std::int64_t>(size_of(a.dtype));
  for (std::int64_t r = 0; r < a.rows; ++r)
    round_row_ref(layout, a.dtype, a.quantized.bits, a.x + r * row_bytes, a.scratch + r * layout.bytes());
  pool.parallel_for(a.rows * a.out_features, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i / a.out_features, n = i % a.out_features;
      float sum = quant_dot_ref(a.scratch + row * layout.bytes(), product, a.weight, n);
      if (a.bias) sum += load_element(a.bias, n, a.dtype);
      store_element(a.y, i, a.partial ? DType::f32 : a.dtype, sum);
    }
  });
}

std::size_t quant_linear_tiles_scratch(const LinearShape& shape, int threads) {
  const auto* q = std::get_if<Quantized>(&shape.storage);
  return q ? tiles_scratch(shape.rows, shape.in_features, q->group_size, shape.sum_parts, threads).bytes : 0;
}

std::size_t quant_linear_scratch(const LinearShape& shape, int) {
  const auto* q = std::get_if<Quantized>(&shape.storage);
  return q ? static_cast<std::size_t>(shape.rows * RoundedRow{shape.in_features, q->group_size}.bytes()) : 0;
}

}  // namespace cajal::cpu
