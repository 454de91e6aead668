#include "backends/cpu/kernels/tile_product.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "backends/cpu/kernels/fetch_output.h"
#include "backends/cpu/kernels/linear_ref.h"
#include "backends/cpu/kernels/tile_product_impl.h"

namespace cajal::cpu {
namespace {

// What HardwareTiles does, number by number: so that all around the instructions is tested on any machine.
class PortableTiles {
 public:
  static constexpr int kTiles = 8;

  void configure(const int (&rows)[kTiles], const int (&row_bytes)[kTiles]) {
    for (int i = 0; i < kTiles; ++i) tiles_[i] = {.rows = rows[i], .row_bytes = row_bytes[i], .bytes = {}};
  }
  template <int kTile>
  void zero() {
    std::memset(tiles_[kTile].bytes, 0, sizeof tiles_[kTile].bytes);
  }
  template <int kTile>
  void load(const void* from, std::int64_t stride) {
    for (int r = 0; r < tiles_[kTile].rows; ++r)
      std::memcpy(tiles_[kTile].bytes[r], static_cast<const std::byte*>(from) + r * stride,
                  static_cast<std::size_t>(tiles_[kTile].row_bytes));
  }
  template <int kTile>
  void store(void* to, std::int64_t stride) const {
    for (int r = 0; r < tiles_[kTile].rows; ++r)
      std::memcpy(static_cast<std::byte*>(to) + r * stride, tiles_[kTile].bytes[r],
                  static_cast<std::size_t>(tiles_[kTile].row_bytes));
  }
  template <int kSums, int kX, int kW>
  void multiply_bf16() {
    Tile &sums = tiles_[kSums], &x = tiles_[kX], &w = tiles_[kW];
    for (int m = 0; m < sums.rows; ++m)
      for (int n = 0; n < sums.row_bytes / 4; ++n) {
        float of[2] = {0, 0};
        for (int k = 0; k < x.row_bytes / 2; ++k)
          of[k % 2] = std::fma(load_element(x.bytes[m], k, DType::bf16),
                               load_element(w.bytes[k / 2], 2 * n + k % 2, DType::bf16), of[k % 2]);
        store_element(sums.bytes[m], n, DType::f32, load_element(sums.bytes[m], n, DType::f32) + (of[0] + of[1]));
      }
  }

 private:
  struct Tile {
    int rows, row_bytes;
    std::byte bytes[16][64];
  };
  Tile tiles_[kTiles];
};

}  // namespace

void pack_panel_row(const PanelLayout& layout, std::int64_t row, const std::byte* x, std::byte* panels) {
  const std::int64_t part_bytes = layout.part_columns() * 2, blocks = layout.part_blocks();
  std::byte* to = panels + row / kTileRows * layout.panel_bytes() + row % kTileRows * kTileRowBytes;
  for (std::int32_t part = 0; part < layout.sum_parts; ++part, x += part_bytes)
    for (std::int64_t b = 0; b < blocks; ++b, to += kTileBytes) {
      const std::int64_t left = part_bytes - b * kTileRowBytes;
      if (left < kTileRowBytes) std::memset(to, 0, static_cast<std::size_t>(kTileRowBytes));
      std::memcpy(to, x + b * kTileRowBytes, static_cast<std::size_t>(std::min(left, kTileRowBytes)));
    }
}

constexpr BlockTable kBlocksBf16PortableTiles = make_tiles_table<PortableTiles, kBlocksBf16Sse2>();

}  // namespace cajal::cpu
