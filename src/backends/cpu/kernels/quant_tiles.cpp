#include "backends/cpu/kernels/quant_tiles.h"

#include <algorithm>
#include <bit>

namespace cajal::cpu {
namespace {

template <int kPiece>
void pack_piece(const std::byte* from, std::byte* to) {
  std::memcpy(to, from, kPiece);
}

}  // namespace

void QuantPanels::pack(const QuantProduct& product, std::int64_t number, std::byte* panel) const {
  const RoundedRow row{columns, group_size};
  const std::int64_t first = number * kPanelRows, count = std::min<std::int64_t>(kPanelRows, product.rows - first);
  const std::byte* rows[kPanelRows];
  for (std::int64_t r = 0; r < count; ++r) rows[r] = product.x_of(first + r);
  const auto copy = piece() == 64 ? pack_piece<64> : pack_piece<32>;
  if (count < kPanelRows) std::memset(panel, 0, static_cast<std::size_t>(panel_bytes()));
  for (std::int64_t g = 0; g < row.groups(); ++g, panel += group_bytes())
    for (std::int64_t r = 0; r < count; ++r) {
      const std::byte* const from = rows[r] + g * row.group_bytes();
      for (std::int64_t k = 0; k < group_size; k += piece()) copy(from + k, panel + k * kPanelRows + r * piece());
      std::memcpy(panel + exponents_at() + r * std::int64_t{sizeof(std::int32_t)}, from + group_size,
                  sizeof(std::int32_t));
    }
}

std::size_t QuantTileScratch::bytes(int sum_parts) {
  const int levels = std::bit_width(static_cast<unsigned>(sum_parts));
  return static_cast<std::size_t>(kWeightBytes + kScaleBytes + levels * kLevelSums * std::int64_t{sizeof(float)});
}

}  // namespace cajal::cpu
