#pragma once
// The blocks of linear_blocks.h over lossless tiles, as templates over what multiplies. To be included *inside* a target region with
// AVX-512, behind these headers:
//   <immintrin.h> <algorithm> <cstring> "backends/cpu/kernels/linear_blocks_impl.h"
namespace cajal::cpu {
namespace {

// Reads halves of units of one lossless tile, each two groups, in ascending order.
class LosslessTile {
 public:
  static constexpr int kGroups = 2, kHalves = 2;
  struct Half {
    __m512i groups[kGroups];
  };

  LosslessTile() = default;
  LosslessTile(const std::byte* tile, std::int64_t head_bytes)
      : table_(tile), escape_(tile + LosslessLayout::kTableBytes), units_(tile + head_bytes) {}

  // Escapes in front of half `half` are not asked for any more.
  [[gnu::always_inline]] void skip_to(std::int64_t half) {
    while (half_of(escape()) < half) escape_ += sizeof(std::uint32_t);
  }
  // Half `half`, which is upper if its number is odd.
  [[gnu::always_inline]] Half read(std::int64_t half, bool upper) {
    const std::byte* const at = units_ + half / kHalves * LosslessLayout::kUnitBytes;
    const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table_)));
    const __m512i codes = _mm512_loadu_si512(at + LosslessLayout::kLowBytes);
    const __m512i code = _mm512_and_si512(upper ? _mm512_srli_epi16(codes, 4) : codes, _mm512_set1_epi8(15));
    __m512i high = _mm512_shuffle_epi8(table, code);
    if (__builtin_expect(half_of(escape()) == half, 0)) insert_escapes(half, high);
    const __m512i low = _mm512_loadu_si512(at + (upper ? LosslessLayout::kLowBytes / 2 : 0));
    return {{_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)}};
  }

 private:
  [[gnu::always_inline]] std::uint32_t escape() const {
    std::uint32_t word;
    std::memcpy(&word, escape_, sizeof word);
    return word;
  }
  static std::int64_t half_of(std::uint32_t escape) { return escape >> 14; }

  [[gnu::always_inline]] void insert_escapes(std::int64_t half, __m512i& high) {
    for (std::uint32_t word = escape(); half_of(word) == half; escape_ += sizeof word, word = escape())
      high = _mm512_mask_set1_epi8(high, std::uint64_t{1} << (word >> 8 & 63), static_cast<char>(word));
  }

  const std::byte *table_ = nullptr, *escape_ = nullptr, *units_ = nullptr;
};

// Blocks over lossless tiles. A `Dot` is an Isa of linear_blocks_impl.h whose Weight is 64 bytes of a tile.
template <class Dot>
struct Lossless : Dot {
  using typename Dot::X;
  static constexpr int kUnitGroups = LosslessTile::kGroups * LosslessTile::kHalves;

  template <int kRows, int kTiles>
  struct Work {
    typename Dot::Sum sums[kRows][kTiles];
    const std::byte* x[kRows];
    LosslessTile tiles[kTiles];
  };

  // Any groups [begin, end), counted from the matrix's first. The next stretch may need the same half again.
  template <int kRows, int kTiles>
  [[gnu::noinline]] static void multiply_some(Work<kRows, kTiles>& w, const Block& b, std::int64_t begin,
                                              std::int64_t end) {
    for (int t = 0; t < kTiles; ++t)
      for (std::int64_t g = begin; g < end; ++g) {
        const std::int64_t half = g / LosslessTile::kGroups;
        LosslessTile tile = w.tiles[t];
        tile.skip_to(half);
        const LosslessTile::Half groups = tile.read(half, half % LosslessTile::kHalves != 0);
        const __m512i weight = groups.groups[g % LosslessTile::kGroups];
        for (int r = 0; r < kRows; ++r)
          Dot::multiply_add(w.sums[r][t], Dot::load_x(w.x[r] + (g - b.first_group) * kXGroupBytes), Dot::widen(weight));
      }
  }

  template <int kRows, int kTiles>
  [[gnu::always_inline]] static void multiply_half(Work<kRows, kTiles>& w, std::int64_t half, bool upper,
                                                   std::int64_t x_at) {
    LosslessTile::Half weights[kTiles];
    CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) weights[t] = w.tiles[t].read(half, upper);
    CAJAL_UNROLL for (int g = 0; g < LosslessTile::kGroups; ++g) {
      typename Dot::Weight of[kTiles];
      CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) of[t] = Dot::widen(weights[t].groups[g]);
      CAJAL_UNROLL for (int r = 0; r < kRows; ++r) {
        const X xr = Dot::load_x(w.x[r] + x_at + g * kXGroupBytes);
        CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) Dot::multiply_add(w.sums[r][t], xr, of[t]);
      }
    }
  }

  // Units [begin, end), while memory is fetched: as many lines as are read, or as fewer as fetch_step is smaller.
  template <auto kHint, int kRows, int kTiles>
  [[gnu::always_inline]] static void multiply_units(Work<kRows, kTiles>& w, const Block& b, std::int64_t begin,
                                                    std::int64_t end, const std::byte* fetch) {
    constexpr int kLines = LosslessLayout::kUnitBytes / 64;
    for (int t = 0; t < kTiles; ++t) w.tiles[t].skip_to(begin * LosslessTile::kHalves);
    const std::int64_t unit_step = kUnitGroups * b.fetch_step, line = unit_step / kLines;
    for (std::int64_t u = begin; u < end; ++u, fetch += unit_step) {
      const std::int64_t x_at = (u * kUnitGroups - b.first_group) * kXGroupBytes;
      CAJAL_UNROLL for (int t = 0; t < kTiles; ++t) {
        const char* const ahead = reinterpret_cast<const char*>(fetch + t * b.tile_stride);
        CAJAL_UNROLL for (int i = 0; i < kLines; ++i) _mm_prefetch(ahead + i * line, kHint);
      }
      multiply_half(w, u * LosslessTile::kHalves, false, x_at);
      multiply_half(w, u * LosslessTile::kHalves + 1, true, x_at + LosslessTile::kGroups * kXGroupBytes);
    }
  }

  template <int kRows, int kTiles>
  [[gnu::always_inline]] static void multiply_groups(Work<kRows, kTiles>& w, const Block& b, std::int64_t begin,
                                                     std::int64_t end, const std::byte* fetch) {
    const std::int64_t whole = round_up<std::int64_t>(begin, kUnitGroups), last = end / kUnitGroups * kUnitGroups;
    if (begin < whole) multiply_some(w, b, begin, std::min(end, whole));
    if (whole < last && kRows == 1 && b.read_once)
      multiply_units<_MM_HINT_NTA>(w, b, whole / kUnitGroups, last / kUnitGroups, fetch);
    else if (whole < last)
      multiply_units<_MM_HINT_T0>(w, b, whole / kUnitGroups, last / kUnitGroups, fetch);
    if (whole <= last && last < end) multiply_some(w, b, last, end);
  }

  template <int kRows, int kTiles>
  static void multiply(const Block& b) {
    Work<kRows, kTiles> w;
    const std::int64_t head = LosslessLayout{0, b.columns}.head_bytes();
    for (int r = 0; r < kRows; ++r) w.x[r] = b.x + r * b.x_stride;
    for (int t = 0; t < kTiles; ++t) {
      w.tiles[t] = LosslessTile(b.weight + t * b.tile_stride, head);
      _mm_prefetch(reinterpret_cast<const char*>(b.fetch_head + t * b.tile_stride), _MM_HINT_T0);
    }
    load_sums<Lossless>(b, w.sums);
    const std::int64_t turn = b.first_group + b.turn, end = b.first_group + b.groups;
    if constexpr (requires { Dot::kBlockGroups; }) {
      for (std::int64_t g = b.first_group; g < end; g += Dot::kBlockGroups) {
        const bool before = g < turn;
        const std::byte* const fetch = before ? b.fetch : b.fetch_after_turn;
        multiply_groups(w, b, g, std::min(g + Dot::kBlockGroups, end),
                        fetch + (g - (before ? b.first_group : turn)) * b.fetch_step);
        Dot::end_block(w.sums);
      }
    } else {
      multiply_groups(w, b, b.first_group, turn, b.fetch);
      multiply_groups(w, b, turn, end, b.fetch_after_turn);
    }
    store_sums<Lossless>(b, w.sums);
  }
};

}  // namespace
}  // namespace cajal::cpu
