#pragma once
// The loops of quant_tiles.h over a class of tiles, HardwareTiles (amx.h) or PortableTiles. To be included *inside* a target region
// with AVX-512, behind these headers:
//   <immintrin.h> <cstring> "backends/cpu/kernels/quant_scales_avx512.h" "backends/cpu/kernels/quant_tiles.h"
//   "backends/cpu/kernels/sum_parts.h" "backends/cpu/unroll.h"
namespace cajal::cpu {
namespace {

// Whole groups of one part of a product's sums, for one tile of weights: a panel after the other.
struct QuantStretch {
  const std::byte* panels;  // of the first one, at the first group
  std::int64_t panel_stride, num_panels, groups;
  bool begins, ends;       // the part
  float *running, *into;   // of the first panel: what the stretches before gave, and where the whole part goes
  int siblings;            // levels from `into` on that are added to the whole part, the last one's first
  const std::byte* fetch;  // what is unpacked next
  std::int64_t fetch_lines;
};

inline std::int64_t pieces_of(std::int64_t n, std::int64_t most) { return n > most ? (n + most - 1) / most : 1; }

template <class Tiles, int kBits, int kGroup>
class QuantTileLoop {
  using At = QuantTileScratch;
  static constexpr int kLine = 64, kPiece = kGroup < 64 ? kGroup : 64, kPieces = kGroup / kPiece;
  static constexpr std::int64_t kPanelGroup = kPanelRows * (kGroup + 4), kExponents = std::int64_t{kPanelRows} * kGroup;
  static constexpr std::int64_t kHalf = kGroup * 16, kUnpacked = 2 * kHalf;  // bytes of 16 and 32 outputs' weights
  static constexpr std::int64_t kScales = kQuantTileOutputs * 4;
  static constexpr std::int64_t kDots = std::int64_t{kPanelRows} * kLine;  // bytes of 16 rows and 16 outputs
  // A step is a group of 16 rows and 16 outputs. Tiles store a step's dot products some steps later, and vectors read them after some
  // more, so that nobody waits; meanwhile each step has a register and a place of its own.
  static constexpr int kStored = 2, kRead = 4, kTurns = 4;

 public:
  explicit QuantTileLoop(const QuantTileWork& work) : w_(work) {
    // Four tiles of sums, two of activations, two of weights.
    tiles_.configure({16, 16, 16, 16, 16, 16, kPiece / 4, kPiece / 4}, {64, 64, 64, 64, kPiece, kPiece, 64, 64});
  }

  void run() {
    const QuantTileRange& range = w_.range;
    const std::int64_t first = range.row_begin / kPanelRows, end = pieces_of(range.row_end, kPanelRows);
    for (std::int64_t tile = range.tile_begin; tile < range.tile_end; ++tile)
      for (std::int64_t panel = first; panel < end; panel += At::kMaxPanels)
        multiply(tile, panel, panel + At::kMaxPanels < end ? panel + At::kMaxPanels : end);
  }

 private:
  void multiply(std::int64_t tile, std::int64_t first_panel, std::int64_t end_panel) {
    const QuantProduct& p = w_.product;
    const std::int64_t panel_bytes = QuantPanels{p.layout.columns, kGroup}.panel_bytes(),
                       panels = end_panel - first_panel;
    const std::int64_t most = (panels <= At::kFewPanels ? At::kColumnsOfFew : At::kColumns) / kGroup;
    for (std::int32_t part = 0; part < p.sum_parts; ++part) {
      // Until a part is whole it waits behind the sums that it completes.
      const auto [siblings, level] = part_of_sum(part);
      float* const into = sums_ + level * At::kLevelSums;
      const std::int64_t begin = p.first_group(part), count = p.first_group(part + 1) - begin;
      const std::int64_t stretches = pieces_of(count, most);
      for (std::int64_t i = 0; i < stretches; ++i) {
        const std::int64_t from = begin + count * i / stretches, to = begin + count * (i + 1) / stretches;
        unpack(tile, from, to);
        multiply({.panels = p.panels + first_panel * panel_bytes + from * kPanelGroup,
                  .panel_stride = panel_bytes,
                  .num_panels = panels,
                  .groups = to - from,
                  .begins = i == 0,
                  .ends = i + 1 == stretches,
                  .running = into + siblings * At::kLevelSums,
                  .into = into,
                  .siblings = siblings,
                  .fetch = behind(tile, to),
                  .fetch_lines = (to - from) * p.layout.group_bytes() / kLine + 1});
      }
    }
    for (std::int64_t panel = first_panel; panel < end_panel; ++panel) {
      const std::int64_t row = panel * kPanelRows, rows = w_.range.row_end - row;
      finish_quant_place(w_.table, p, {row, tile, static_cast<int>(rows < kPanelRows ? rows : kPanelRows), 1},
                         sums_ + (panel - first_panel) * At::kPanelSums);
    }
  }

  // Weights from group `group` on, or of the next tile, or of what comes after the range.
  const std::byte* behind(std::int64_t tile, std::int64_t group) const {
    const QuantizedLayout& l = w_.product.layout;
    const std::byte* const weight = w_.product.weight + tile * l.tile_bytes();
    if (group < l.groups()) return weight + group * l.group_bytes();
    return tile + 1 < w_.range.tile_end ? weight + l.tile_bytes() : w_.range.weight_after;
  }

  // Groups [from, to): integers as tiles of [piece / 4][16 outputs][4] signed bytes.
  void unpack(std::int64_t tile, std::int64_t from, std::int64_t to) const {
    const QuantizedLayout& l = w_.product.layout;
    const std::byte* group = w_.product.weight + tile * l.tile_bytes() + from * l.group_bytes();
    std::byte *integers = at_.weights(), *scales = at_.scales();
    for (std::int64_t g = from; g < to; ++g, group += l.group_bytes(), integers += kUnpacked, scales += kScales) {
      for (int half = 0; half < 2; ++half)
        _mm512_store_si512(scales + half * kLine, avx512::load_quant_scales(group + half * l.scales_bytes() / 2));
      unpack_integers(group + l.scales_bytes(), integers);
    }
  }

  static void unpack_integers(const std::byte* from, std::byte* to) {
    constexpr int kStep = kBits == 8 ? 4 : 8;  // columns of a line
    for (int k = 0; k < kGroup / kStep; ++k)
      for (int half = 0; half < 2; ++half, from += kLine) {
        const __m512i bytes = _mm512_loadu_si512(from);
        std::byte* const line = to + half * kHalf + k * (kStep / 4) * kLine;
        if constexpr (kBits == 8) {
          _mm512_store_si512(line, _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)));
        } else {
          const __m512i low = _mm512_and_si512(bytes, _mm512_set1_epi8(15)),
                        high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), _mm512_set1_epi8(15));
          _mm512_store_si512(line, _mm512_sub_epi8(low, _mm512_set1_epi8(8)));
          _mm512_store_si512(line + kLine, _mm512_sub_epi8(high, _mm512_set1_epi8(8)));
        }
      }
  }

  // Where tiles are in a stretch: a block is a panel and half a tile of weights.
  struct Cursor {
    const std::byte *panel, *weights;
    std::int64_t group, block;
  };
  Cursor cursor_at(const QuantStretch& s, std::int64_t block) const {
    return {s.panels + block / 2 * s.panel_stride, at_.weights() + block % 2 * kHalf, 0, block};
  }

  void multiply(const QuantStretch& s) {
    const std::int64_t blocks = 2 * s.num_panels, steps = blocks * s.groups;
    const std::byte* const fetch_end = s.fetch ? s.fetch + s.fetch_lines * kLine : nullptr;
    const std::byte* fetch = s.fetch;
    const std::int64_t fetch_step = steps > 0 ? pieces_of(s.fetch_lines, steps) * kLine : 0;
    Cursor ahead = cursor_at(s, 0);
    std::int64_t made = 0;
    for (; made < kRead; ++made) make_dots(s, ahead, made, steps);
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::byte* exponents = s.panels + block / 2 * s.panel_stride + kExponents;
      const std::byte* scales = at_.scales() + block % 2 * kLine;
      // Half of the next panel.
      const std::byte* near = exponents - kExponents + s.panel_stride + block % 2 * (s.groups * kPanelGroup / 2);
      const std::int64_t at = block / 2 * At::kPanelSums + block % 2 * 16;
      __m512 sums[kPanelRows];
      CAJAL_UNROLL for (int r = 0; r < kPanelRows; ++r) {
        sums[r] = s.begins ? _mm512_setzero_ps() : _mm512_load_ps(s.running + at + r * kQuantSumsStride);
      }
      for (std::int64_t g = 0; g < s.groups; ++g, ++made) {
        make_dots(s, ahead, made, steps);
        near = fetch_near(near);
        for (const std::byte* const stop = fetch + fetch_step; fetch < stop && fetch < fetch_end; fetch += kLine)
          _mm_prefetch(reinterpret_cast<const char*>(fetch), _MM_HINT_T1);
        add_group(sums, dots_ + made % kTurns * kDots, scales, exponents);
        scales += kScales, exponents += kPanelGroup;
      }
      store(sums, s, at);
    }
  }

  // What tiles do in step `step`: they also store the dot products of one before. Behind the last step that is all.
  [[gnu::always_inline]] void make_dots(const QuantStretch& s, Cursor& at, std::int64_t step, std::int64_t steps) {
    static_assert(kTurns == 4);
    switch (step % kTurns) {
      case 0: make_dots<0>(s, at, step, steps); break;
      case 1: make_dots<1>(s, at, step, steps); break;
      case 2: make_dots<2>(s, at, step, steps); break;
      default: make_dots<3>(s, at, step, steps); break;
    }
  }
  template <int kTurn>
  [[gnu::always_inline]] void make_dots(const QuantStretch& s, Cursor& at, std::int64_t step, std::int64_t steps) {
    constexpr int kThat = (kTurn + kTurns - kStored) % kTurns;
    if (step >= kStored && step - kStored < steps) tiles_.template store<kThat>(dots_ + kThat * kDots, kLine);
    if (step >= steps) return;
    constexpr int kX = 4 + (kPieces == 1 ? kTurn % 2 : 0), kW = kX + 2;
    tiles_.template zero<kTurn>();
    tiles_.template load<kX>(at.panel, kPiece);
    tiles_.template load<kW>(at.weights, kLine);
    tiles_.template multiply_int8<kTurn, kX, kW>();
    if constexpr (kPieces == 2) {
      tiles_.template load<kX + 1>(at.panel + kPanelRows * kPiece, kPiece);
      tiles_.template load<kW + 1>(at.weights + kPiece / 4 * kLine, kLine);
      tiles_.template multiply_int8<kTurn, kX + 1, kW + 1>();
    }
    at.panel += kPanelGroup, at.weights += kUnpacked;
    if (++at.group == s.groups) at = cursor_at(s, at.block + 1);
  }

  // Half a group of a panel to the first cache; returns where the next half begins.
  [[gnu::always_inline]] static const std::byte* fetch_near(const std::byte* near) {
    CAJAL_UNROLL for (std::int64_t at = 0; at < kPanelGroup / 2; at += kLine) {
      _mm_prefetch(reinterpret_cast<const char*>(near + at), _MM_HINT_T0);
    }
    return near + kPanelGroup / 2;
  }

  [[gnu::always_inline]] static void add_group(__m512 (&sums)[kPanelRows], const std::byte* dots,
                                               const std::byte* scales, const std::byte* exponents) {
    const __m512i scale = _mm512_load_si512(scales);
    CAJAL_UNROLL for (int r = 0; r < kPanelRows; ++r) {
      std::int32_t exponent;
      std::memcpy(&exponent, exponents + r * 4, sizeof exponent);
      const __m512 k = _mm512_castsi512_ps(_mm512_add_epi32(scale, _mm512_set1_epi32(exponent)));
      sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(dots + r * kLine)), k, sums[r]);
    }
  }

  [[gnu::always_inline]] static void store(__m512 (&sums)[kPanelRows], const QuantStretch& s, std::int64_t at) {
    float* const to = (s.ends ? s.into : s.running) + at;
    for (int level = s.ends ? s.siblings - 1 : -1; level >= 0; --level) {
      const float* const other = to + level * At::kLevelSums;
      CAJAL_UNROLL for (int r = 0; r < kPanelRows; ++r) {
        sums[r] = _mm512_add_ps(_mm512_load_ps(other + r * kQuantSumsStride), sums[r]);
      }
    }
    CAJAL_UNROLL for (int r = 0; r < kPanelRows; ++r) _mm512_store_ps(to + r * kQuantSumsStride, sums[r]);
  }

  const QuantTileWork& w_;
  const QuantTileScratch at_{w_.scratch};
  float* const sums_ = at_.sums();
  Tiles tiles_;
  alignas(64) std::byte dots_[kTurns * kDots];  // of each turn [16 rows][16] i32
};

template <class Tiles>
void multiply_quant_with(const QuantTileWork& w) {
  const Quantized& q = w.product.layout.storage;
  if (q.bits == 8)
    q.group_size == 32 ? QuantTileLoop<Tiles, 8, 32>(w).run() : QuantTileLoop<Tiles, 8, 128>(w).run();
  else
    q.group_size == 32 ? QuantTileLoop<Tiles, 4, 32>(w).run() : QuantTileLoop<Tiles, 4, 128>(w).run();
}

}  // namespace
}  // namespace cajal::cpu
