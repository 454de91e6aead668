#pragma once
// The blocks of quant_blocks.h as templates over an instruction set. To be included *inside* a target region, by one file
// per instruction set, behind these headers:
//   <immintrin.h> <cstring> "backends/cpu/kernels/quant_blocks.h" "backends/cpu/unroll.h"
//
// An `Isa` has: kMaxVectors (accumulators that fit, counted in pairs of an integer and a float one, each of 16 outputs);
// Sum (16 floats), zero, load, store, add, times_powers, which takes exponents of two; Int (16 i32), broadcast; Weight (16 outputs by four unsigned bytes), load_weight,
// and low and high halves of bytes; X (four signed bytes, for all outputs), load_x; dot<bits>; load_scales, which gives the
// bits of f32; accumulate, which adds float(dot) * scale * the power of two of x; store_y, which rounds, with load_bias beside
// it; and round_group.
namespace cajal::cpu {
namespace {

constexpr std::int64_t kHalfBytes = 64;  // four columns of 16 outputs; a tile has two halves
constexpr std::int64_t kScalesBytes = kQuantTileOutputs, kHalfScalesBytes = kScalesBytes / 2;  // of a group

enum class Fetching { line_a_group, whole_groups, whole_groups_once };

// dots += weight * x for one group, while memory is fetched from `fetch` on.
template <class Isa, int kBits, int kGroup, int kRows, int kTiles, Fetching kFetching>
[[gnu::always_inline]] inline void multiply_group(typename Isa::Int (&dots)[kRows][2 * kTiles],
                                                  const std::byte* const (&x)[kRows], const std::byte* weight,
                                                  std::int64_t tile_stride, const std::byte* fetch) {
  constexpr auto kHint = kFetching == Fetching::whole_groups_once ? _MM_HINT_NTA : _MM_HINT_T0;
  constexpr std::int64_t kStep = kBits == 8 ? 4 : 8;  // columns of a byte of a half
  for (std::int64_t k = 0; k < kGroup; k += kStep) {
    const std::int64_t at = kScalesBytes + k / kStep * 2 * kHalfBytes;
    typename Isa::Weight w[2 * kTiles];
    CAJAL_UNROLL for (int v = 0; v < 2 * kTiles; ++v) {
      w[v] = Isa::load_weight(weight + v / 2 * tile_stride + at + v % 2 * kHalfBytes);
      if constexpr (kFetching != Fetching::line_a_group)
        _mm_prefetch(reinterpret_cast<const char*>(fetch + v / 2 * tile_stride + at + v % 2 * kHalfBytes), kHint);
    }
    CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
      const typename Isa::X first = Isa::template load_x<kBits>(x[r] + k);
      if constexpr (kBits == 8) {
        CAJAL_UNROLL for (int v = 0; v < 2 * kTiles; ++v) Isa::template dot<kBits>(dots[r][v], w[v], first);
      } else {
        const typename Isa::X second = Isa::template load_x<kBits>(x[r] + k + 4);
        CAJAL_UNROLL for (int v = 0; v < 2 * kTiles; ++v) {
          Isa::template dot<kBits>(dots[r][v], Isa::low(w[v]), first);
          Isa::template dot<kBits>(dots[r][v], Isa::high(w[v]), second);
        }
      }
    }
  }
}

template <class Isa, int kBits, int kGroup, int kRows, int kTiles, Fetching kFetching>
[[gnu::always_inline]] inline void multiply_groups(typename Isa::Sum (&sums)[kRows][2 * kTiles],
                                                   const std::byte* (&x)[kRows], const QuantBlock& b,
                                                   std::int64_t begin, std::int64_t end, const std::byte* fetch) {
  constexpr std::int64_t kGroupBytes = kScalesBytes + kQuantTileOutputs * kGroup * kBits / 8;
  const std::byte* weight = b.weight + begin * kGroupBytes;
  for (std::int64_t g = begin; g < end; ++g) {
    typename Isa::Int dots[kRows][2 * kTiles];
    CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
      std::int32_t correction;
      std::memcpy(&correction, x[r] + kGroup + 4, sizeof correction);
      CAJAL_UNROLL for (int v = 0; v < 2 * kTiles; ++v) dots[r][v] = Isa::broadcast(correction);
    }
    CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) {
      _mm_prefetch(reinterpret_cast<const char*>(fetch + t * b.tile_stride), _MM_HINT_T0);
    }
    multiply_group<Isa, kBits, kGroup, kRows, kTiles, kFetching>(dots, x, weight, b.tile_stride, fetch);
    CAJAL_UNROLL for (int v = 0; v < 2 * kTiles; ++v) {
      const typename Isa::Int scales = Isa::load_scales(weight + v / 2 * b.tile_stride + v % 2 * kHalfScalesBytes);
      CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
        std::int32_t exponent;
        std::memcpy(&exponent, x[r] + kGroup, sizeof exponent);
        Isa::accumulate(sums[r][v], dots[r][v], scales, exponent);
      }
    }
    CAJAL_UNROLL for (int r = 0; r < kRows; ++r) x[r] += kGroup + 8;
    weight += kGroupBytes;
    fetch += kFetching == Fetching::line_a_group ? b.fetch_step : kGroupBytes;
  }
}

template <class Isa, int kBits, int kGroup, int kRows, int kTiles>
void multiply_quant_block(const QuantBlock& b) {
  typename Isa::Sum sums[kRows][2 * kTiles];
  const std::byte* x[kRows];
  CAJAL_UNROLL for (int r = 0; r < kRows; ++r) x[r] = b.x[r];
  CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
    CAJAL_UNROLL for (int v = 0; v < 2 * kTiles; ++v) sums[r][v] = Isa::zero();
  }
  const auto multiply = [&]<Fetching kFetching>() __attribute__((always_inline)) {
    multiply_groups<Isa, kBits, kGroup, kRows, kTiles, kFetching>(sums, x, b, 0, b.turn, b.fetch);
    multiply_groups<Isa, kBits, kGroup, kRows, kTiles, kFetching>(sums, x, b, b.turn, b.groups, b.fetch_after_turn);
  };
  if (!b.cold)
    multiply_groups<Isa, kBits, kGroup, kRows, kTiles, Fetching::line_a_group>(sums, x, b, 0, b.groups, b.fetch);
  else if (kRows * kTiles == 1 && b.read_once)
    multiply.template operator()<Fetching::whole_groups_once>();
  else
    multiply.template operator()<Fetching::whole_groups>();
  for (int level = b.siblings - 1; level >= 0; --level) {
    const float* other = b.sums + level * kQuantLevelStride;
    CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
      CAJAL_UNROLL for (int v = 0; v < 2 * kTiles; ++v) {
        sums[r][v] = Isa::add(Isa::load(other + r * kQuantSumsStride + v * 16), sums[r][v]);
      }
    }
  }
  CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
    CAJAL_UNROLL for (int v = 0; v < 2 * kTiles; ++v) Isa::store(b.sums + r * kQuantSumsStride + v * 16, sums[r][v]);
  }
}

template <class Isa>
void finish_quant_sums(const QuantFinish& f) {
  const std::int64_t element = f.dtype == DType::bf16 ? 2 : 4;
  for (std::int64_t i = 0; i < f.outputs; i += 16) {
    const std::int64_t n = f.outputs - i < 16 ? f.outputs - i : 16;
    const typename Isa::Sum bias = f.bias ? Isa::load_bias(f.bias + i * element, n, f.dtype) : Isa::zero();
    const std::byte* const exponents = f.exponents + i / kQuantTileOutputs * f.tile_stride + i % kQuantTileOutputs;
    for (int r = 0; r < f.rows; ++r) {
      typename Isa::Sum sum = Isa::times_powers(Isa::load(f.sums + r * kQuantSumsStride + i), exponents);
      if (f.bias) sum = Isa::add(sum, bias);
      Isa::store_y(f.y + r * f.y_stride + i * element, sum, n, f.dtype);
    }
  }
}

template <class Isa, int kRows, int kTiles>
constexpr void fill_quant_blocks(QuantBlockTable& table) {
  if constexpr (kRows * kTiles * 2 <= Isa::kMaxVectors || (kRows <= Isa::kBestRows && kTiles == 1)) {
    table.block[0][0][kRows - 1][kTiles - 1] = multiply_quant_block<Isa, 4, 32, kRows, kTiles>;
    table.block[0][1][kRows - 1][kTiles - 1] = multiply_quant_block<Isa, 4, 128, kRows, kTiles>;
    table.block[1][0][kRows - 1][kTiles - 1] = multiply_quant_block<Isa, 8, 32, kRows, kTiles>;
    table.block[1][1][kRows - 1][kTiles - 1] = multiply_quant_block<Isa, 8, 128, kRows, kTiles>;
  }
}

template <class Isa>
constexpr QuantBlockTable make_quant_table() {
  QuantBlockTable table{};
  table.best_rows = Isa::kBestRows;
  const auto fill = [&table]<int kRows>() {
    fill_quant_blocks<Isa, kRows, 1>(table), fill_quant_blocks<Isa, kRows, 2>(table);
  };
  fill.template operator()<1>(), fill.template operator()<2>(), fill.template operator()<3>();
  fill.template operator()<4>(), fill.template operator()<5>(), fill.template operator()<6>();
  table.finish = finish_quant_sums<Isa>;
  table.round_group = Isa::round_group;
  return table;
}

}  // namespace
}  // namespace cajal::cpu
