#pragma once
// The blocks of linear_blocks.h as templates over an instruction set. To be included *inside* a target region, by one
// file per instruction set, behind these headers:
//   <immintrin.h> "backends/cpu/kernels/linear_blocks.h" "backends/cpu/unroll.h"
//
// An `Isa` has: kDType, kMaxVectors (accumulators that fit, counted in tiles), Sum (16 floats), zero, load, store, add;
// X and Weight: one group of a row, one group of a tile, ready to multiply; load_x, load_weight; multiply_add; and
// store_y, which rounds, with load_bias beside it, both for the first `n` outputs of a tile. One with blocks of its own has
// multiply<rows, tiles>.
namespace cajal::cpu {
namespace {

// sums += x * weight over the groups [begin, end), while memory is fetched in steps from `fetch` on. Addresses are sums of few
// numbers, which are kept from the compiler's hands: it would make one of each row and tile, more than it has registers for.
template <class Isa, auto kHint = _MM_HINT_T0, int kRows, int kTiles>
[[gnu::always_inline]] inline void multiply_stretch(typename Isa::Sum (&sums)[kRows][kTiles], const Block& b,
                                                    std::int64_t begin, std::int64_t end, const std::byte* fetch) {
  const std::byte* x = b.x + begin * kXGroupBytes;
  const std::byte* weight = b.weight + begin * kGroupBytes;
  const std::byte* const stop = b.x + end * kXGroupBytes;
  std::int64_t row = b.x_stride, rows3 = 3 * row, rows5 = 5 * row;
  std::int64_t tile = b.tile_stride, tiles3 = 3 * tile;
  const std::int64_t step = b.fetch_step;
  for (; x < stop; x += kXGroupBytes, weight += kGroupBytes, fetch += step) {
    if constexpr (kRows > 3) __asm__("" : "+r"(row), "+r"(rows3), "+r"(rows5), "+r"(tile), "+r"(tiles3));
    typename Isa::Weight w[kTiles];
    CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) {
      const std::int64_t at = t == 3 ? tiles3 : t * tile;
      w[t] = Isa::load_weight(weight + at);
      _mm_prefetch(reinterpret_cast<const char*>(fetch + at), kHint);
    }
    CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
      const std::int64_t at = r == 3 ? rows3 : r == 5 ? rows5 : r == 6 ? 2 * rows3 : r == 10 ? 2 * rows5 : r * row;
      const typename Isa::X xr = Isa::load_x(x + at);
      CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) Isa::multiply_add(sums[r][t], xr, w[t]);
    }
  }
}

template <class Isa, int kRows, int kTiles>
[[gnu::always_inline]] inline void load_sums(const Block& b, typename Isa::Sum (&sums)[kRows][kTiles]) {
  CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
    CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) {
      sums[r][t] = b.from_zero ? Isa::zero() : Isa::load(b.sums + r * kSumsStride + t * kTileOutputs);
    }
  }
}

// Adds the siblings of earlier parts, the last one's first.
template <class Isa, int kRows, int kTiles>
[[gnu::always_inline]] inline void store_sums(const Block& b, typename Isa::Sum (&sums)[kRows][kTiles]) {
  for (int level = b.siblings - 1; level >= 0; --level) {
    const float* other = b.sums + level * kLevelStride;
    CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
      CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) {
        sums[r][t] = Isa::add(Isa::load(other + r * kSumsStride + t * kTileOutputs), sums[r][t]);
      }
    }
  }
  CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
    CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) {
      Isa::store(b.sums + r * kSumsStride + t * kTileOutputs, sums[r][t]);
    }
  }
}

template <class Isa, int kRows, int kTiles>
void multiply_block(const Block& b) {
  typename Isa::Sum sums[kRows][kTiles];
  load_sums<Isa>(b, sums);
  const auto multiply = [&]<auto kHint>() __attribute__((always_inline)) {
    multiply_stretch<Isa, kHint>(sums, b, 0, b.turn, b.fetch);
    multiply_stretch<Isa, kHint>(sums, b, b.turn, b.groups, b.fetch_after_turn);
  };
  if (kRows == 1 && b.read_once)
    multiply.template operator()<_MM_HINT_NTA>();
  else
    multiply.template operator()<_MM_HINT_T0>();
  store_sums<Isa>(b, sums);
}

template <class Isa>
void finish_sums(const Finish& f) {
  constexpr std::int64_t kElementBytes = Isa::kDType == DType::bf16 ? 2 : 4;
  for (std::int64_t i = 0; i < f.outputs; i += kTileOutputs) {
    const std::int64_t n = f.outputs - i < kTileOutputs ? f.outputs - i : kTileOutputs;
    const typename Isa::Sum bias = f.bias ? Isa::load_bias(f.bias + i * kElementBytes, n) : Isa::zero();
    for (int r = 0; r < f.rows; ++r) {
      typename Isa::Sum sum = Isa::load(f.sums + r * kSumsStride + i);
      if (f.bias) sum = Isa::add(sum, bias);
      Isa::store_y(f.y + r * f.y_stride + i * kElementBytes, sum, n);
    }
  }
}

template <class Isa, int kRows, int kTiles>
constexpr auto block_or_null() -> void (*)(const Block&) {
  if constexpr (kRows * kTiles <= Isa::kMaxVectors && requires { Isa::template multiply<kRows, kTiles>; })
    return Isa::template multiply<kRows, kTiles>;
  else if constexpr (kRows * kTiles <= Isa::kMaxVectors)
    return multiply_block<Isa, kRows, kTiles>;
  else
    return nullptr;
}

template <class Isa>
constexpr BlockTable make_table(int best_rows) {
  BlockTable table{};
  table.dtype = Isa::kDType;
  table.best_rows = best_rows;
  table.max_rows = Isa::kMaxVectors < kMaxBlockRows ? Isa::kMaxVectors : kMaxBlockRows;
  const auto fill = [&table]<int kRows>() {
    table.block[kRows - 1][0] = block_or_null<Isa, kRows, 1>();
    table.block[kRows - 1][1] = block_or_null<Isa, kRows, 2>();
    table.block[kRows - 1][2] = block_or_null<Isa, kRows, 3>();
    table.block[kRows - 1][3] = block_or_null<Isa, kRows, 4>();
  };
  fill.template operator()<1>(), fill.template operator()<2>(), fill.template operator()<3>();
  fill.template operator()<4>(), fill.template operator()<5>(), fill.template operator()<6>();
  fill.template operator()<7>(), fill.template operator()<8>(), fill.template operator()<9>();
  fill.template operator()<10>(), fill.template operator()<11>(), fill.template operator()<12>();
  table.finish = finish_sums<Isa>;
  return table;
}

}  // namespace
}  // namespace cajal::cpu
