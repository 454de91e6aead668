#include "backends/cpu/kernels/sketch.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/cpu/isa.h"
#include "backends/cpu/unroll.h"
#include "base/error.h"

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512_VNNI)
namespace cajal::cpu {
namespace {

constexpr int kLanes = 16, kSteps = 8;     // of four columns, to a block
constexpr int kLevels = 32, kCoarser = 4;  // of the integers; of them to one of the coarse layer
constexpr float kMiddle = 15.5f, kCoarseMiddle = 3.5f, kFineMiddle = 1.5f;
// That a dithered weight may have, in steps: half a coarse step less than there are.
constexpr float kMostSteps = 14;
// That are fetched before they are read: of one stream; on a processor that follows streams; of rows here and there.
constexpr std::int64_t kBytesAhead = 4096, kBytesAheadOfFollower = 128, kBytesOfRowsAhead = 2048;
constexpr float kLargestScale = 255, kLargestInteger = 127;
// Squares are added up in f32, and what comes of them is rounded up by this afterwards.
constexpr float kRoundUp = 1.0001f;
// sqrt(2 ln(2^64) / 12), for steps of one of the fine layer's.
constexpr float kFineDoubt = 2.7190f * kRoundUp, kCoarseDoubt = kCoarser * kFineDoubt;
// Products below the smallest normal number may count as zeros: less than this for each unit of a row's norm.
constexpr float kLeastNorm = 1e-25f;
constexpr float kLargestNorm = 1e15f, kLeastScale = 1e-30f, kLeastSquared = 1e-15f;
// Times the noise of any input: more than its norm.
constexpr float kNoisesOfNorm = 1e5f;

float largest_of(const float* group) {
  __m512 largest = _mm512_setzero_ps();
  CAJAL_UNROLL for (int i = 0; i < SketchLayout::kGroupColumns; i += kLanes) largest =
      _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(group + i)));
  return _mm512_reduce_max_ps(largest);
}

// A row's group, whose step is 1 / inverse, to integers.
void round_group(const float* group, const float* dither, float inverse, std::uint8_t* out) {
  const __m512 by = _mm512_set1_ps(inverse), most = _mm512_set1_ps(kLevels - 1);
  CAJAL_UNROLL for (int i = 0; i < SketchLayout::kGroupColumns; i += kLanes) {
    const __m512 zero =
        _mm512_fnmadd_ps(_mm512_loadu_ps(dither + i), _mm512_set1_ps(kCoarser), _mm512_set1_ps(kMiddle));
    __m512 v = _mm512_roundscale_ps(_mm512_fmadd_ps(_mm512_loadu_ps(group + i), by, zero),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), most);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }
}

// Columns [first, first + 32) of integers[16][64] as a block of the coarse layer.
void store_block(const std::uint8_t (&integers)[kLanes][SketchLayout::kGroupColumns], int first, std::byte* out) {
  const __m512i low = _mm512_set1_epi8(7), lowest = _mm512_set1_epi8(3);
  __m512i steps[kSteps];
  for (int s = 0; s < kSteps; ++s) {
    alignas(64) std::uint8_t four[kLanes][4];
    for (int n = 0; n < kLanes; ++n) std::memcpy(four[n], &integers[n][first + 4 * s], 4);
    steps[s] = _mm512_and_si512(_mm512_srli_epi16(_mm512_load_si512(four), 2), low);
  }
  const __m512i highest = _mm512_or_si512(_mm512_slli_epi16(_mm512_andnot_si512(lowest, steps[6]), 4),
                                          _mm512_slli_epi16(_mm512_andnot_si512(lowest, steps[7]), 5));
  const __m512i top[3] = {_mm512_slli_epi16(_mm512_and_si512(steps[6], lowest), 6),
                          _mm512_slli_epi16(_mm512_and_si512(steps[7], lowest), 6), highest};
  for (int i = 0; i < 3; ++i)
    _mm512_storeu_si512(out + i * 64,
                        _mm512_or_si512(top[i], _mm512_or_si512(steps[i], _mm512_slli_epi16(steps[3 + i], 3))));
}

// A group of a row of the fine layer.
void store_fine(const std::uint8_t (&integers)[SketchLayout::kGroupColumns], std::byte* out) {
  __m128i all = _mm_setzero_si128();
  for (int i = 0; i < 4; ++i) {
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(integers + i * kLanes));
    all = _mm_or_si128(all, _mm_slli_epi16(_mm_and_si128(four, _mm_set1_epi8(kCoarser - 1)), 2 * i));
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), all);
}

void dot(__m512i& sum, __m512i weights, const std::int8_t* four) {
  std::int32_t x;
  std::memcpy(&x, four, sizeof x);
  // Not the intrinsic, as in quant_blocks_avx512_vnni.cpp.
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(_mm512_set1_epi32(x)));
}

// The integers of the coarse layer of a block, step by step; those of steps 3 to 5 are eight times as large.
struct BlockSteps {
  __m512i steps[kSteps];

  explicit BlockSteps(const std::byte* block) {
    __m512i a = _mm512_loadu_si512(block), b = _mm512_loadu_si512(block + 64), c = _mm512_loadu_si512(block + 128);
    __asm__("" : "+v"(a), "+v"(b), "+v"(c));  // each is loaded once, not in every instruction that takes it
    const __m512i low = _mm512_set1_epi8(7), next = _mm512_set1_epi8(7 << 3), lowest = _mm512_set1_epi8(3);
    constexpr int kLowestOfFirst = 0xca;  // lowest ? first : second
    steps[0] = _mm512_and_si512(a, low), steps[3] = _mm512_and_si512(a, next);
    steps[1] = _mm512_and_si512(b, low), steps[4] = _mm512_and_si512(b, next);
    steps[2] = _mm512_and_si512(c, low), steps[5] = _mm512_and_si512(c, next);
    const __m512i six =
        _mm512_ternarylogic_epi32(lowest, _mm512_srli_epi16(a, 6), _mm512_srli_epi16(c, 4), kLowestOfFirst);
    const __m512i seven =
        _mm512_ternarylogic_epi32(lowest, _mm512_srli_epi16(b, 6), _mm512_srli_epi16(c, 5), kLowestOfFirst);
    steps[6] = _mm512_and_si512(six, low), steps[7] = _mm512_and_si512(seven, low);
  }
};

// Where an input's numbers are.
struct InputAt {
  const std::int8_t* integers;
  const float *factors, *offsets, *squares;
};

InputAt at_of(const SketchInput& input) {
  return {input.integers.data(), input.coarse_factors.data(), input.coarse_offsets.data(), input.squares.data()};
}

// Of the products of one input with the rows of a tile whose scales are 1: their sum, and of what the doubt is the root.
struct TileSums {
  __m512 product, variance;
};

template <int kInputs>
[[gnu::always_inline]] inline void add_group(const InputAt (&inputs)[kInputs], const std::byte* group, __m512 scales,
                                             std::int64_t g, TileSums (&sums)[kInputs]) {
  __m512i even[kInputs], odd[kInputs], eight_times[kInputs];
  CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) even[i] = odd[i] = eight_times[i] = _mm512_setzero_si512();
  CAJAL_UNROLL for (int b = 0; b < 2; ++b) {
    const BlockSteps block(group + b * SketchLayout::kBlockBytes);
    CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) {
      const std::int8_t* const x = inputs[i].integers + g * SketchLayout::kGroupColumns + 32 * b;
      dot(even[i], block.steps[0], x), dot(odd[i], block.steps[1], x + 4), dot(even[i], block.steps[2], x + 8);
      CAJAL_UNROLL for (int s = 3; s < 6; ++s) dot(eight_times[i], block.steps[s], x + 4 * s);
      dot(odd[i], block.steps[6], x + 24), dot(b == 0 ? even[i] : odd[i], block.steps[7], x + 28);
    }
  }
  const __m512 squares = _mm512_mul_ps(scales, scales);
  CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) {
    const InputAt& in = inputs[i];
    const __m512i integers = _mm512_add_epi32(_mm512_add_epi32(even[i], odd[i]), _mm512_srai_epi32(eight_times[i], 3));
    const __m512 of_group =
        _mm512_fmsub_ps(_mm512_cvtepi32_ps(integers), _mm512_set1_ps(in.factors[g]), _mm512_set1_ps(in.offsets[g]));
    sums[i].product = _mm512_fmadd_ps(scales, of_group, sums[i].product);
    sums[i].variance = _mm512_fmadd_ps(squares, _mm512_set1_ps(in.squares[g]), sums[i].variance);
  }
}

__m512 load_bf16(const std::byte* from) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

template <int kInputs>
void bound_tiles(const SketchLayout& layout, const std::byte* sketch, const SketchInput* inputs, std::int64_t begin,
                 std::int64_t end, const SketchBounds* bounds) {
  const std::int64_t units = layout.units(), tile_bytes = layout.tile_bytes();
  const std::int64_t ahead = follows_streams() ? kBytesAheadOfFollower : kBytesAhead;
  InputAt at[kInputs];
  CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) at[i] = at_of(inputs[i]);
  for (std::int64_t t = begin; t < end; ++t) {
    const std::byte* const tile = sketch + t * tile_bytes;
    TileSums sums[kInputs];
    CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) sums[i] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (std::int64_t u = 0; u < units; ++u) {
      const std::byte* const unit = tile + SketchLayout::kRowsBytes + u * SketchLayout::kUnitBytes;
      _mm_prefetch(reinterpret_cast<const char*>(unit) + ahead, _MM_HINT_T0);
      for (int n = 0; n < SketchLayout::kUnitGroups; ++n) {
        const std::byte* const group = unit + SketchLayout::kScalesBytes + n * SketchLayout::kGroupBytes;
        CAJAL_UNROLL for (std::int64_t line = 0; line < SketchLayout::kGroupBytes; line += 64)
            _mm_prefetch(reinterpret_cast<const char*>(group) + ahead + line, _MM_HINT_T0);
        const __m128i scales = _mm_loadu_si128(reinterpret_cast<const __m128i*>(unit + n * kLanes));
        add_group<kInputs>(at, group, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(scales)),
                           u * SketchLayout::kUnitGroups + n, sums);
      }
    }
    const __m512 scale = load_bf16(tile), norm = load_bf16(tile + 2 * kLanes);
    CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) {
      const __m512 of_ones =
          _mm512_fmadd_ps(_mm512_sqrt_ps(sums[i].variance), _mm512_set1_ps(kCoarseDoubt), sums[i].product);
      const __m512 of_rows = _mm512_fmadd_ps(of_ones, scale, _mm512_mul_ps(norm, _mm512_set1_ps(inputs[i].noise)));
      _mm512_storeu_ps(bounds[i].of_rows + t * kLanes, of_rows);
      bounds[i].of_tiles[t] = _mm512_reduce_max_ps(of_rows);
    }
  }
}

// By how much the fine layer lowers the bound of a row whose scale is 1, below 0 where it raises it.
float fine_difference(const SketchLayout& layout, const std::byte* row, const SketchInput& input) {
  const std::byte* const scales = row + layout.fine_scales_at();
  // Byte j of a lane of 128 bits goes to column j of 16.
  const __m512i turns = _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
  __m512 offsets = _mm512_setzero_ps(), variances = offsets, sums[2] = {offsets, offsets};
  for (std::int64_t first = 0; first < layout.groups(); first += kLanes) {
    const std::int64_t count = std::min<std::int64_t>(kLanes, layout.groups() - first);
    const auto here = static_cast<__mmask16>((1u << count) - 1);
    const __m512 scale = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(here, scales + first)));
    offsets = _mm512_fmadd_ps(scale, _mm512_maskz_loadu_ps(here, input.fine_offsets.data() + first), offsets);
    variances = _mm512_fmadd_ps(_mm512_mul_ps(scale, scale), _mm512_maskz_loadu_ps(here, input.squares.data() + first),
                                variances);
    float factors[kLanes];
    _mm512_storeu_ps(factors, _mm512_mul_ps(scale, _mm512_maskz_loadu_ps(here, input.fine_factors.data() + first)));
    for (std::int64_t n = 0; n < count; ++n) {
      const std::int64_t g = first + n;
      const __m512i bits = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + g * kLanes)));
      const __m512i integers = _mm512_and_si512(_mm512_srlv_epi32(bits, turns), _mm512_set1_epi8(kCoarser - 1));
      const __m512i x = _mm512_loadu_si512(input.integers.data() + g * SketchLayout::kGroupColumns);
      __m512i products = _mm512_setzero_si512();
      __asm__("vpdpbusd %2, %1, %0" : "+v"(products) : "v"(integers), "v"(x));
      sums[n % 2] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), _mm512_set1_ps(factors[n]), sums[n % 2]);
    }
  }
  const float product = _mm512_reduce_add_ps(_mm512_sub_ps(_mm512_add_ps(sums[0], sums[1]), offsets));
  return (kCoarseDoubt - kFineDoubt) * std::sqrt(_mm512_reduce_add_ps(variances)) - product;
}

void fetch_row(const std::byte* row, std::int64_t bytes) {
  for (std::int64_t at = 0; at < bytes + 63; at += 64)
    _mm_prefetch(reinterpret_cast<const char*>(row) + at, _MM_HINT_T0);
}

void refine_avx512(const SketchLayout& layout, const std::byte* sketch, const SketchInput& input, std::int64_t begin,
                   std::int64_t end, float threshold, const SketchBounds& bounds) {
  constexpr std::int64_t kTilesAtOnce = 128;
  const std::int64_t bytes = layout.fine_row_bytes();
  const std::int64_t rows_ahead = std::max<std::int64_t>(2, kBytesOfRowsAhead / bytes);
  const std::byte* const fine = sketch + layout.coarse_bytes();
  const __m512 limit = _mm512_set1_ps(threshold);
  for (std::int64_t first = begin; first < end; first += kTilesAtOnce) {
    std::int32_t rows[kTilesAtOnce * kLanes];
    std::int64_t count = 0;
    for (std::int64_t t = first; t < std::min(first + kTilesAtOnce, end); ++t) {
      if (bounds.of_tiles[t] < threshold) continue;
      bounds.of_tiles[t] = -std::numeric_limits<float>::infinity();
      // Not below: also what is no number.
      const __mmask16 in_doubt = _mm512_cmp_ps_mask(_mm512_loadu_ps(bounds.of_rows + t * kLanes), limit, _CMP_NLT_UQ);
      for (unsigned left = in_doubt; left != 0; left &= left - 1)
        rows[count++] = static_cast<std::int32_t>(t * kLanes) + std::countr_zero(left);
    }
    for (std::int64_t i = 0; i < std::min(count, rows_ahead); ++i) fetch_row(fine + rows[i] * bytes, bytes);
    for (std::int64_t i = 0; i < count; ++i) {
      if (i + rows_ahead < count) fetch_row(fine + rows[i + rows_ahead] * bytes, bytes);
      const std::byte* const row = fine + rows[i] * bytes;
      float bound = bounds.of_rows[rows[i]], scale;
      std::memcpy(&scale, row + layout.fine_end_at(), sizeof scale);
      if (std::isfinite(bound)) bound -= fine_difference(layout, row, input) * scale;
      float& of_tile = bounds.of_tiles[rows[i] / kLanes];
      if (!(bound < threshold)) of_tile = std::max(of_tile, bound);
    }
  }
}

std::uint16_t bf16_not_below(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  return static_cast<std::uint16_t>((bits + 0xffffu) >> 16);
}

float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

// What a tile says of a row.
struct RowHeader {
  std::uint16_t scale = 0, norm = 0;  // a scale of 0: nothing is stored of it

  static RowHeader missing() { return {0, 0xff80}; }  // -infinity

  RowHeader() = default;
  RowHeader(std::uint16_t s, std::uint16_t n) : scale(s), norm(n) {}
  explicit RowHeader(std::span<const float> row) {
    float largest = 0;
    bool numbers = true;
    __m512 squares = _mm512_setzero_ps();
    for (std::size_t k = 0; k < row.size(); k += SketchLayout::kGroupColumns) {
      for (std::size_t i = k; i < k + SketchLayout::kGroupColumns; i += kLanes) {
        const __m512 w = _mm512_loadu_ps(row.data() + i);
        numbers = numbers && !_mm512_cmp_ps_mask(w, w, _CMP_UNORD_Q);
        squares = _mm512_fmadd_ps(w, w, squares);
      }
      largest = std::max(largest, largest_of(row.data() + k));
    }
    if (!numbers || largest > kLargestNorm / static_cast<float>(row.size())) {
      norm = 0x7f80;  // infinity
      return;
    }
    const float least = largest / (kLargestScale * kMostSteps);
    if (least >= kLeastScale) scale = bf16_not_below(least * kRoundUp);
    // Squares of the smallest numbers are zeros.
    const float length = largest < kLeastSquared ? largest * std::sqrt(static_cast<float>(row.size()))
                                                 : std::sqrt(_mm512_reduce_add_ps(squares)) * kRoundUp;
    norm = bf16_not_below(kLeastNorm + (scale == 0 ? kNoisesOfNorm * length : length));
  }
};

void sketch_tile_avx512(const SketchLayout& layout, std::int64_t tile, const float* rows, const float* dither,
                        std::byte* sketch) {
  std::byte* const out = sketch + tile * layout.tile_bytes();
  std::byte* const fine = sketch + layout.coarse_bytes() + tile * kLanes * layout.fine_row_bytes();
  const std::int64_t columns = layout.padded_columns();
  const std::int64_t here = std::min<std::int64_t>(kLanes, layout.rows - tile * kLanes);
  std::uint16_t scales[kLanes], norms[kLanes];
  for (int n = 0; n < kLanes; ++n) {
    const std::span row(rows + n * columns, static_cast<std::size_t>(columns));
    const RowHeader header = n < here ? RowHeader(row) : RowHeader::missing();
    scales[n] = header.scale, norms[n] = header.norm;
    const float scale = from_bf16(header.scale);
    std::memcpy(fine + n * layout.fine_row_bytes() + layout.fine_end_at(), &scale, sizeof scale);
  }
  std::memcpy(out, scales, sizeof scales);
  std::memcpy(out + sizeof scales, norms, sizeof norms);
  for (std::int64_t g = 0; g < layout.groups(); ++g) {
    const std::int64_t in_unit = g % SketchLayout::kUnitGroups, first = g * SketchLayout::kGroupColumns;
    std::byte* const unit = out + SketchLayout::kRowsBytes + g / SketchLayout::kUnitGroups * SketchLayout::kUnitBytes;
    std::uint8_t integers[kLanes][SketchLayout::kGroupColumns] = {};
    for (int n = 0; n < kLanes; ++n) {
      float of_group = 1;
      if (scales[n] != 0) {
        const float* const group = rows + n * columns + first;
        const float scale = from_bf16(scales[n]);
        of_group = std::clamp(std::ceil(largest_of(group) * kRoundUp / (scale * kMostSteps)), 1.0f, kLargestScale);
        round_group(group, dither + first, 1 / (scale * of_group), integers[n]);
      }
      unit[in_unit * kLanes + n] = static_cast<std::byte>(static_cast<int>(of_group));
      std::byte* const row = fine + n * layout.fine_row_bytes();
      store_fine(integers[n], row + g * kLanes);
      row[layout.fine_scales_at() + g] = unit[in_unit * kLanes + n];
    }
    std::byte* const blocks = unit + SketchLayout::kScalesBytes + in_unit * SketchLayout::kGroupBytes;
    store_block(integers, 0, blocks);
    store_block(integers, 32, blocks + SketchLayout::kBlockBytes);
  }
}

// Sums of a group's integers, of them times the dither, of their squares, and of the squares of what rounding leaves.
struct RoundedGroup {
  std::int32_t sum, squares;
  float dithered, squares_off;
};

// `exact` has the group's columns, those of padding being 0.
RoundedGroup round_activations(const float* exact, const float* dither, float unit, std::int8_t* out) {
  const __m512 by = _mm512_set1_ps(unit), inverse = _mm512_set1_ps(1 / unit);
  const __m512 most = _mm512_set1_ps(kLargestInteger), least = _mm512_set1_ps(-kLargestInteger);
  __m512i sum = _mm512_setzero_si512(), squares = sum;
  __m512 dithered = _mm512_setzero_ps(), squares_off = dithered;
  CAJAL_UNROLL for (int i = 0; i < SketchLayout::kGroupColumns; i += kLanes) {
    const __m512 x = _mm512_loadu_ps(exact + i);
    const __m512 rounded =
        _mm512_roundscale_ps(_mm512_mul_ps(x, inverse), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 q = _mm512_max_ps(_mm512_min_ps(rounded, most), least);
    const __m512 off = _mm512_fnmadd_ps(q, by, x);
    const __m512i integers = _mm512_cvtps_epi32(q);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm512_cvtepi32_epi8(integers));
    sum = _mm512_add_epi32(sum, integers);
    dithered = _mm512_fmadd_ps(q, _mm512_loadu_ps(dither + i), dithered);
    squares = _mm512_add_epi32(squares, _mm512_mullo_epi32(integers, integers));
    squares_off = _mm512_fmadd_ps(off, off, squares_off);
  }
  return {_mm512_reduce_add_epi32(sum), _mm512_reduce_add_epi32(squares), _mm512_reduce_add_ps(dithered),
          _mm512_reduce_add_ps(squares_off)};
}

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {

std::vector<float> sketch_dither(const SketchLayout& layout) {
  std::vector<float> dither(static_cast<std::size_t>(layout.padded_columns()));
  std::uint64_t state = 0;
  for (float& u : dither) {
    // SplitMix64 (Steele, Lea and Flood, 2014); of its bits as many as a float between 1 and 2 has.
    std::uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    u = static_cast<float>((z ^ (z >> 31)) >> 41) * 0x1p-23f - 0.5f;
  }
  return dither;
}

SketchInput::SketchInput(const SketchLayout& layout)
    : integers(static_cast<std::size_t>(layout.padded_columns())), dither_(sketch_dither(layout)) {
  for (auto* of_groups : {&coarse_factors, &coarse_offsets, &fine_factors, &fine_offsets, &squares})
    of_groups->resize(static_cast<std::size_t>(layout.groups()));
}

double SketchInput::set_group(std::int64_t g, std::span<const float> exact, float unit) {
  float group[SketchLayout::kGroupColumns] = {};
  std::copy(exact.begin(), exact.end(), group);
  const auto at = static_cast<std::size_t>(g), first = at * SketchLayout::kGroupColumns;
  const RoundedGroup r = round_activations(group, dither_.data() + first, unit, integers.data() + first);
  // With c = v / 4 and f = v % 4, v - 15.5 + 4 u = 4 (c - 3.5 + u) + (f - 1.5).
  const auto sum = static_cast<float>(r.sum);
  coarse_factors[at] = kCoarser * unit;
  coarse_offsets[at] = kCoarser * unit * (kCoarseMiddle * sum - r.dithered);
  fine_factors[at] = unit;
  fine_offsets[at] = kFineMiddle * unit * sum;
  squares[at] = static_cast<float>(r.squares) * unit * unit * kRoundUp;
  return static_cast<double>(r.squares_off) * static_cast<double>(kRoundUp);
}

bool can_sketch(std::uint32_t isa) { return (isa & kAvx512Vnni) != 0; }

void sketch_tile(const SketchLayout& layout, std::int64_t tile, const float* rows, const float* dither,
                 std::byte* sketch) {
  sketch_tile_avx512(layout, tile, rows, dither, sketch);
}

void sketch_bounds(const SketchLayout& layout, const std::byte* sketch, const SketchInput* inputs, int num_inputs,
                   std::int64_t begin, std::int64_t end, const SketchBounds* bounds) {
  CAJAL_CHECK(num_inputs >= 1 && num_inputs <= kMostSketchInputs);
  using Bound = void (*)(const SketchLayout&, const std::byte*, const SketchInput*, std::int64_t, std::int64_t,
                         const SketchBounds*);
  static constexpr Bound kBound[kMostSketchInputs] = {bound_tiles<1>, bound_tiles<2>, bound_tiles<3>, bound_tiles<4>};
  kBound[num_inputs - 1](layout, sketch, inputs, begin, end, bounds);
}

void refine_bounds(const SketchLayout& layout, const std::byte* sketch, const SketchInput& input, std::int64_t begin,
                   std::int64_t end, float threshold, const SketchBounds& bounds) {
  refine_avx512(layout, sketch, input, begin, end, threshold, bounds);
}

}  // namespace cajal::cpu
