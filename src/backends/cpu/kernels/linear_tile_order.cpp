// Blocks for the few rows of a machine with AMX: AVX-512 in the order in which tile instructions add (tile_product.h). They read
// memory faster than tiles do.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "backends/cpu/kernels/tile_product.h"
#include "backends/cpu/kernels/vec_avx512_bf16.h"
#include "backends/cpu/unroll.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_BF16)
#include "backends/cpu/kernels/linear_blocks_impl.h"
#include "backends/cpu/kernels/linear_lossless_impl.h"

namespace cajal::cpu {
namespace {

struct TileOrder {
  static constexpr DType kDType = DType::bf16;
  static constexpr int kMaxVectors = 8;
  static constexpr std::int64_t kBlockGroups = kTileColumns / 2;
  // What is summed up to the last whole block, and in this one.
  struct Sum {
    __m512 total, even, odd;
  };
  using X = avx512::Bf16Pairs;
  using Weight = avx512::Bf16Pairs;
  static Sum zero() { return load_total(_mm512_setzero_ps()); }
  static Sum load(const float* p) { return load_total(_mm512_loadu_ps(p)); }
  static Sum load_total(__m512 total) { return {total, _mm512_setzero_ps(), _mm512_setzero_ps()}; }
  static void store(float* p, const Sum& v) { _mm512_storeu_ps(p, v.total); }
  static Sum add(const Sum& a, const Sum& b) { return load_total(_mm512_add_ps(a.total, b.total)); }
  static Weight widen(__m512i pairs) { return avx512::widen_pairs(pairs); }
  static Weight load_weight(const std::byte* p) { return widen(_mm512_loadu_si512(p)); }
  static X load_x(const std::byte* p) { return avx512::broadcast_pair(p); }
  static void multiply_add(Sum& sum, const X& x, const Weight& w) {
    sum.even = _mm512_fmadd_ps(x.even, w.even, sum.even);
    sum.odd = _mm512_fmadd_ps(x.odd, w.odd, sum.odd);
  }
  template <int kRows, int kTiles>
  [[gnu::always_inline]] static void end_block(Sum (&sums)[kRows][kTiles]) {
    CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
      CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) {
        Sum& s = sums[r][t];
        s = load_total(_mm512_add_ps(s.total, _mm512_add_ps(s.even, s.odd)));
      }
    }
  }
  static Sum load_bias(const std::byte* p, std::int64_t n) {
    return load_total(avx512::load_bf16(p, avx512::first_lanes(n)));
  }
  static void store_y(std::byte* p, const Sum& v, std::int64_t n) {
    avx512_bf16::store_bf16(p, v.total, avx512::first_lanes(n));
  }

  template <int kRows, int kTiles>
  static void multiply(const Block& b) {
    Sum sums[kRows][kTiles];
    load_sums<TileOrder>(b, sums);
    for (std::int64_t g = 0; g < b.groups; g += kBlockGroups) {
      const bool before = g < b.turn;
      const std::byte* const fetch = before ? b.fetch : b.fetch_after_turn;
      multiply_stretch<TileOrder>(sums, b, g, std::min(g + kBlockGroups, b.groups),
                                  fetch + (g - (before ? 0 : b.turn)) * b.fetch_step);
      end_block(sums);
    }
    store_sums<TileOrder>(b, sums);
  }
};

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
constexpr BlockTable kBlocksBf16TileOrder = [] {
  BlockTable table = make_table<TileOrder>(4);
  table.max_rows = 4;  // more are faster by tiles
  table.even_columns = true;
  return table;
}();
constexpr BlockTable kBlocksLosslessTileOrder = [] {
  BlockTable table = make_table<Lossless<TileOrder>>(2);
  table.max_rows = 2;
  table.unpacked = &kBlocksBf16Amx;
  table.even_columns = true;
  return table;
}();
}  // namespace cajal::cpu
