#pragma once
// What HardwareTiles of amx.h does, number by number: so that all around the instructions is tested on any machine.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backends/cpu/kernels/linear_ref.h"
#include "base/error.h"

namespace cajal::cpu {

class PortableTiles {
 public:
  static constexpr int kTiles = 8;

  void configure(const int (&rows)[kTiles], const int (&row_bytes)[kTiles]) {
    for (int i = 0; i < kTiles; ++i) tiles_[i].rows = rows[i], tiles_[i].row_bytes = row_bytes[i];
  }
  template <int kTile>
  void zero() {
    std::memset(tiles_[kTile].bytes, 0, sizeof tiles_[kTile].bytes);
  }
  template <int kTile>
  void load(const void* from, std::int64_t stride) {
    zero<kTile>();
    for (int r = 0; r < tiles_[kTile].rows; ++r)
      std::memcpy(tiles_[kTile].bytes[r], static_cast<const std::byte*>(from) + r * stride, size(tiles_[kTile]));
  }
  template <int kTile>
  void store(void* to, std::int64_t stride) const {
    for (int r = 0; r < tiles_[kTile].rows; ++r)
      std::memcpy(static_cast<std::byte*>(to) + r * stride, tiles_[kTile].bytes[r], size(tiles_[kTile]));
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
  template <int kSums, int kX, int kW>
  void multiply_int8() {
    const Tile &x = tiles_[kX], &w = tiles_[kW];
    Tile& sums = tiles_[kSums];
    CAJAL_CHECK(x.rows == sums.rows && x.row_bytes == 4 * w.rows && w.row_bytes == sums.row_bytes,
                "tiles that do not fit");
    for (int m = 0; m < sums.rows; ++m) {
      const auto* const row = reinterpret_cast<const std::int8_t*>(x.bytes[m]);
      std::int32_t of[16];
      std::memcpy(of, sums.bytes[m], sizeof of);
      for (int k = 0; k < x.row_bytes; k += 4) {
        const auto* const fours = reinterpret_cast<const std::int8_t*>(w.bytes[k / 4]);
        for (int n = 0; n < sums.row_bytes / 4; ++n)
          for (int i = 0; i < 4; ++i) of[n] += row[k + i] * fours[4 * n + i];
      }
      std::memcpy(sums.bytes[m], of, sizeof of);
    }
  }

 private:
  struct Tile {
    int rows = 0, row_bytes = 0;
    std::byte bytes[16][64];
  };
  static std::size_t size(const Tile& tile) { return static_cast<std::size_t>(tile.row_bytes); }

  Tile tiles_[kTiles] = {};
};

}  // namespace cajal::cpu
