#pragma once
// The loops of quant_tiles.h over a class of tiles, HardwareTiles (amx.h) or PortableTiles. To be included *inside* a target region
// with AVX-512, behind these headers:
//   <immintrin.h> <cstring> "backends/cpu/kernels/quant_scales_avx512.h" "backends/cpu/kernels/quant_tiles.h" "backends/cpu/unroll.h"
namespace cajal::cpu {
namespace {

// Whole groups of a product, of one part of its sums: a panel after the other times unpacked weights.
struct QuantStretch {
  const std::byte* panels;  // of the first one, at the first group
  std::int64_t panel_stride, num_panels;
  int tiles;
  std::int64_t groups;
  bool begins, ends;            // a part
  std::byte *weights, *scales;  // unpacked
  float *running, *into;        // of the first panel: what the stretches before gave, and where the whole part goes
  int siblings;                 // levels from `into` on that are added to the whole part, the last one's first
  const std::byte* fetch;       // what is multiplied next, of the first tile
  std::int64_t fetch_stride, fetch_lines;
};

inline std::int64_t pieces_of(std::int64_t n, std::int64_t most) { return n > most ? (n + most - 1) / most : 1; }

template <class Tiles, int kBits, int kGroup>
class QuantTileLoop {
  using At = QuantTileScratch;
  static constexpr int kLine = 64, kPiece = kGroup < 64 ? kGroup : 64, kPieces = kGroup / kPiece;
  static constexpr std::int64_t kPanelGroup = kPanelRows * (kGroup + 4), kExponents = std::int64_t{kPanelRows} * kGroup;
  static constexpr std::int64_t kHalf = kGroup * 16, kUnpacked = 2 * kHalf;  // bytes of 16 and 32 outputs' weights
  static constexpr std::int64_t kScales = kQuantTileOutputs * 4;
  // Groups whose dot products wait for vectors at a time, while tiles make those of as many others.
  static constexpr std::int64_t kChunk = 4;
  static constexpr std::int64_t kDots = std::int64_t{kPanelRows} * kLine;  // bytes of 16 rows and 16 outputs
  static constexpr int kSliceRows = 8;                                     // whose sums of 32 outputs live in registers

 public:
  explicit QuantTileLoop(const QuantTileWork& work) : w_(work) {
    // Four tiles of sums, two of activations, two of weights.
    tiles_.configure({16, 16, 16, 16, 16, 16, kPiece / 4, kPiece / 4}, {64, 64, 64, 64, kPiece, kPiece, 64, 64});
  }

  void run() {
    const QuantTileRange& range = w_.range;
    const std::int64_t first = range.row_begin / kPanelRows, end = pieces_of(range.row_end, kPanelRows);
    for (std::int64_t tile = range.tile_begin; tile < range.tile_end; tile += At::kTiles)
      for (std::int64_t panel = first; panel < end; panel += At::kMaxPanels)
        multiply(tile, panel, panel + At::kMaxPanels < end ? panel + At::kMaxPanels : end);
  }

 private:
  // Groups that are multiplied together, of one panel and one tile.
  struct Chunk {
    const std::byte *panel, *weights, *scales;
    float *running, *into;
    std::int64_t groups;
    bool begins, ends;
  };

  void multiply(std::int64_t tile, std::int64_t first_panel, std::int64_t end_panel) {
    const QuantProduct& p = w_.product;
    const int tiles = static_cast<int>(w_.range.tile_end - tile < At::kTiles ? w_.range.tile_end - tile : At::kTiles);
    const std::int64_t panel_bytes = QuantPanels{p.layout.columns, kGroup}.panel_bytes();
    const std::int64_t most = At::kStretchColumns / kGroup;
    for (std::int32_t part = 0; part < p.sum_parts; ++part) {
      // As Multiplier of quant_blocks.cpp: a part completes as many sums of two as its number ends in ones. Until it is whole it
      // waits behind those.
      const int siblings = __builtin_ctz(~static_cast<unsigned>(part));
      float* const into = sums_ + (__builtin_popcount(static_cast<unsigned>(part)) - siblings) * At::kLevelSums;
      const std::int64_t begin = p.first_group(part), count = p.first_group(part + 1) - begin;
      const std::int64_t stretches = pieces_of(count, most);
      for (std::int64_t i = 0; i < stretches; ++i) {
        const std::int64_t from = begin + count * i / stretches, to = begin + count * (i + 1) / stretches;
        unpack(tile, tiles, from, to);
        QuantStretch s{.panels = p.panels + first_panel * panel_bytes + from * kPanelGroup,
                       .panel_stride = panel_bytes,
                       .num_panels = end_panel - first_panel,
                       .tiles = tiles,
                       .groups = to - from,
                       .begins = i == 0,
                       .ends = i + 1 == stretches,
                       .weights = at_.weights(),
                       .scales = at_.scales(),
                       .running = into + siblings * At::kLevelSums,
                       .into = into,
                       .siblings = siblings,
                       .fetch = nullptr,
                       .fetch_stride = p.layout.tile_bytes(),
                       .fetch_lines = 0};
        fetch_behind(tile, tiles, to, to - from, s);
        multiply(s);
      }
    }
    for (std::int64_t panel = first_panel; panel < end_panel; ++panel) {
      const std::int64_t row = panel * kPanelRows, rows = w_.range.row_end - row;
      finish_quant_place(w_.table, p, {row, tile, static_cast<int>(rows < kPanelRows ? rows : kPanelRows), tiles},
                         sums_ + (panel - first_panel) * At::kPanelSums);
    }
  }

  // Weights from group `group` on, as long as the stretch before, or of the next tile, or of what comes after the range.
  void fetch_behind(std::int64_t tile, int tiles, std::int64_t group, std::int64_t groups, QuantStretch& s) const {
    const QuantizedLayout& l = w_.product.layout;
    const std::byte* const weight = w_.product.weight + tile * l.tile_bytes();
    if (group < l.groups())
      s.fetch = weight + group * l.group_bytes();
    else
      s.fetch = tile + tiles < w_.range.tile_end ? weight + tiles * l.tile_bytes() : w_.range.weight_after;
    if (s.fetch) s.fetch_lines = groups * l.group_bytes() / kLine + 1;
  }

  // Groups [from, to) of some tiles, integers as tiles of [piece / 4][16 outputs][4] signed bytes.
  void unpack(std::int64_t tile, int tiles, std::int64_t from, std::int64_t to) const {
    const QuantizedLayout& l = w_.product.layout;
    std::byte *integers = at_.weights(), *scales = at_.scales();
    for (int t = 0; t < tiles; ++t) {
      const std::byte* group = w_.product.weight + (tile + t) * l.tile_bytes() + from * l.group_bytes();
      for (std::int64_t g = from; g < to; ++g, group += l.group_bytes(), integers += kUnpacked, scales += kScales) {
        for (int half = 0; half < 2; ++half)
          _mm512_store_si512(scales + half * kLine, avx512::load_quant_scales(group + half * l.scales_bytes() / 2));
        unpack_integers(group + l.scales_bytes(), integers);
      }
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

  void multiply(const QuantStretch& s) {
    const std::int64_t chunks = pieces_of(s.groups, kChunk);
    const std::int64_t total = s.num_panels * s.tiles * chunks, lines = s.tiles * s.fetch_lines;
    std::int64_t panel = 0, chunk = 0, fetched = 0;
    int tile = 0, buffer = 0;
    const auto next = [&] {
      const std::int64_t from = s.groups * chunk / chunks, to = s.groups * (chunk + 1) / chunks,
                         group = tile * s.groups + from;
      const std::int64_t sums = panel * At::kPanelSums + tile * kQuantTileOutputs;
      const Chunk c{.panel = s.panels + panel * s.panel_stride + from * kPanelGroup,
                    .weights = s.weights + group * kUnpacked,
                    .scales = s.scales + group * kScales,
                    .running = s.running + sums,
                    .into = s.into + sums,
                    .groups = to - from,
                    .begins = s.begins && chunk == 0,
                    .ends = s.ends && chunk + 1 == chunks};
      if (++chunk == chunks) chunk = 0, ++tile;
      if (tile == s.tiles) tile = 0, ++panel;
      return c;
    };
    Chunk now = next();
    for (std::int64_t step = 0; step < 2 * now.groups; ++step) make_dots(now, step, buffer);
    for (std::int64_t i = 1; i <= total; ++i) {
      for (; fetched < lines * i / total; ++fetched)
        _mm_prefetch(reinterpret_cast<const char*>(s.fetch + fetched / s.fetch_lines * s.fetch_stride +
                                                   fetched % s.fetch_lines * kLine),
                     _MM_HINT_T1);
      Chunk following = now;
      if (i < total)
        following = next();
      else
        following.groups = 0;
      add(now, buffer, following, s.siblings);
      now = following;
      buffer ^= 1;
    }
  }

  // Half a group's dot products: 16 rows and 16 outputs. Steps take registers in turn, so that they do not wait for each other.
  void make_dots(const Chunk& c, std::int64_t step, int buffer) {
    const std::int64_t group = step / 2;
    const std::byte* const panel = c.panel + group * kPanelGroup;
    const std::byte* const weights = c.weights + group * kUnpacked + step % 2 * kHalf;
    std::byte* const dots = dots_[buffer] + step * kDots;
    switch (step % 4) {
      case 0: return make_dots<0>(panel, weights, dots);
      case 1: return make_dots<1>(panel, weights, dots);
      case 2: return make_dots<2>(panel, weights, dots);
      default: return make_dots<3>(panel, weights, dots);
    }
  }
  template <int kStep>
  [[gnu::always_inline]] void make_dots(const std::byte* panel, const std::byte* weights, std::byte* dots) {
    constexpr int kX = 4 + (kPieces == 1 ? kStep / 2 : 0), kW = 6 + (kPieces == 1 ? kStep % 2 : 0);
    tiles_.template zero<kStep>();
    if constexpr (kStep % 2 == 0) tiles_.template load<kX>(panel, kPiece);
    tiles_.template load<kW>(weights, kLine);
    tiles_.template multiply_int8<kStep, kX, kW>();
    if constexpr (kPieces == 2) {
      if constexpr (kStep % 2 == 0) tiles_.template load<kX + 1>(panel + kPanelRows * kPiece, kPiece);
      tiles_.template load<kW + 1>(weights + kPiece / 4 * kLine, kLine);
      tiles_.template multiply_int8<kStep, kX + 1, kW + 1>();
    }
    tiles_.template store<kStep>(dots, kLine);
  }

  // Adds a chunk's dot products up, while tiles make those of the following one in the other buffer.
  [[gnu::always_inline]] void add(const Chunk& c, int buffer, const Chunk& following, int siblings) {
    const std::int64_t steps = 2 * following.groups;
    std::int64_t step = 0;
    for (int row = 0; row < kPanelRows; row += kSliceRows) {
      __m512 sums[kSliceRows][2];
      float* const running = c.running + row * kQuantSumsStride;
      CAJAL_UNROLL for (int r = 0; r < kSliceRows; ++r) {
        CAJAL_UNROLL for (int v = 0; v < 2; ++v) {
          sums[r][v] = c.begins ? _mm512_setzero_ps() : _mm512_load_ps(running + r * kQuantSumsStride + v * 16);
        }
      }
      for (std::int64_t g = 0; g < c.groups; ++g) {
        if (step < steps) make_dots(following, step++, buffer ^ 1);
        add_group(sums, dots_[buffer] + 2 * g * kDots + row * kLine, c.scales + g * kScales,
                  c.panel + g * kPanelGroup + kExponents + row * 4);
      }
      store(sums, c, row, siblings);
    }
    while (step < steps) make_dots(following, step++, buffer ^ 1);
  }

  [[gnu::always_inline]] static void add_group(__m512 (&sums)[kSliceRows][2], const std::byte* dots,
                                               const std::byte* scales, const std::byte* exponents) {
    __m512i scale[2];
    CAJAL_UNROLL for (int v = 0; v < 2; ++v) scale[v] = _mm512_load_si512(scales + v * kLine);
    CAJAL_UNROLL for (int r = 0; r < kSliceRows; ++r) {
      std::int32_t exponent;
      std::memcpy(&exponent, exponents + r * 4, sizeof exponent);
      const __m512i k = _mm512_set1_epi32(exponent);
      CAJAL_UNROLL for (int v = 0; v < 2; ++v) {
        const __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(dots + v * kDots + r * kLine));
        sums[r][v] = _mm512_fmadd_ps(dot, _mm512_castsi512_ps(_mm512_add_epi32(scale[v], k)), sums[r][v]);
      }
    }
  }

  [[gnu::always_inline]] static void store(__m512 (&sums)[kSliceRows][2], const Chunk& c, int row, int siblings) {
    float* const to = (c.ends ? c.into : c.running) + row * kQuantSumsStride;
    for (int level = c.ends ? siblings - 1 : -1; level >= 0; --level) {
      const float* const other = to + level * At::kLevelSums;
      CAJAL_UNROLL for (int r = 0; r < kSliceRows; ++r) {
        CAJAL_UNROLL for (int v = 0; v < 2; ++v) {
          sums[r][v] = _mm512_add_ps(_mm512_load_ps(other + r * kQuantSumsStride + v * 16), sums[r][v]);
        }
      }
    }
    CAJAL_UNROLL for (int r = 0; r < kSliceRows; ++r) {
      CAJAL_UNROLL for (int v = 0; v < 2; ++v) _mm512_store_ps(to + r * kQuantSumsStride + v * 16, sums[r][v]);
    }
  }

  const QuantTileWork& w_;
  const QuantTileScratch at_{w_.scratch};
  float* const sums_ = at_.sums();
  Tiles tiles_;
  alignas(64) std::byte dots_[2][2 * kChunk * kDots];  // [group][16 outputs][16 rows][16] i32
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
