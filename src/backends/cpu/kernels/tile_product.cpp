#include "backends/cpu/kernels/tile_product.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backends/cpu/kernels/fetch_output.h"
#include "backends/cpu/kernels/portable_tiles.h"
#include "backends/cpu/kernels/sum_parts.h"
#include "backends/cpu/kernels/tile_product_impl.h"

namespace cajal::cpu {
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
