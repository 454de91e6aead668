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

constexpr int kLanes = 16, kSteps = 8, kPairs = 4;  // steps of four columns, two to a vector of low bits
constexpr int kLevels = 64, kCoarser = 4;           // of the integers; of them to one of a coarse layer of 4 bits
constexpr float kMiddle = 31.5f;
constexpr std::int64_t kMostGroups = SketchLayout::kMostColumnsOfTwoLayers / SketchLayout::kGroupColumns;
// That are fetched before they are read: rows here and there, or one stream; and one on a processor that follows streams.
constexpr std::int64_t kBytesAhead = 4096, kBytesAheadOfFollower = 128;
constexpr float kLargestScale = 255;
// Norms are added up in f32, and rounded up by this afterwards.
constexpr float kRoundUp = 1.0001f;
// Products below the smallest normal number may count as zeros: less than this for each unit of a row's norm.
constexpr float kLeastNorm = 1e-25f;
constexpr float kLargestNorm = 1e15f, kLeastScale = 1e-30f;

struct RowSums {
  __m512 coarse_errors, fine_errors, squares;
};

// A row's group: its integers to `out`, its errors to the sums. `step` is above 0.
void round_group(const float* group, float step, std::uint8_t* out, RowSums& sums) {
  const __m512 middle = _mm512_set1_ps(kMiddle), by = _mm512_set1_ps(step);
  const __m512 inverse = _mm512_set1_ps(1 / step), most = _mm512_set1_ps(kLevels - 1);
  // Of v, the middle of those of the same coarse integer is 4 (v / 4) + 1.5.
  const __m512 coarse_middle = _mm512_set1_ps(kMiddle - (kCoarser - 1) / 2.0f);
  CAJAL_UNROLL for (int i = 0; i < 2; ++i) {
    const __m512 w = _mm512_loadu_ps(group + i * kLanes);
    __m512 v = _mm512_roundscale_ps(_mm512_fmadd_ps(w, inverse, middle), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), most);
    const __m512i integers = _mm512_cvtps_epi32(v);
    const __m512 coarse = _mm512_cvtepi32_ps(_mm512_and_si512(integers, _mm512_set1_epi32(-kCoarser)));
    const __m512 fine_error = _mm512_sub_ps(w, _mm512_mul_ps(_mm512_sub_ps(v, middle), by));
    const __m512 coarse_error = _mm512_sub_ps(w, _mm512_mul_ps(_mm512_sub_ps(coarse, coarse_middle), by));
    sums.fine_errors = _mm512_fmadd_ps(fine_error, fine_error, sums.fine_errors);
    sums.coarse_errors = _mm512_fmadd_ps(coarse_error, coarse_error, sums.coarse_errors);
    sums.squares = _mm512_fmadd_ps(w, w, sums.squares);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * kLanes), _mm512_cvtepi32_epi8(integers));
  }
}

float largest_of(const float* group) {
  const __m512 a = _mm512_abs_ps(_mm512_loadu_ps(group)), b = _mm512_abs_ps(_mm512_loadu_ps(group + kLanes));
  return _mm512_reduce_max_ps(_mm512_max_ps(a, b));
}

// integers[16][32] as a group of the coarse layer.
void store_coarse(const std::uint8_t (&integers)[kLanes][SketchLayout::kGroupColumns], bool two_layers,
                  std::byte* out) {
  __m512i steps[kSteps];
  const __m512i low = _mm512_set1_epi8(15);
  for (int s = 0; s < kSteps; ++s) {
    alignas(64) std::uint8_t four[kLanes][4];
    for (int n = 0; n < kLanes; ++n) std::memcpy(four[n], &integers[n][4 * s], 4);
    steps[s] = _mm512_load_si512(four);
    if (two_layers) {
      steps[s] = _mm512_and_si512(_mm512_srli_epi16(steps[s], 2), low);
      continue;
    }
    for (int p = 0; p < 2; ++p) {
      const std::uint64_t plane = _mm512_test_epi8_mask(steps[s], _mm512_set1_epi8(static_cast<char>(16 << p)));
      std::memcpy(out + SketchLayout::kLowBytes + p * SketchLayout::kPlaneBytes + s * 8, &plane, sizeof plane);
    }
  }
  for (int j = 0; j < kPairs; ++j)
    _mm512_storeu_si512(out + j * 64, _mm512_or_si512(_mm512_and_si512(steps[2 * j], low),
                                                      _mm512_slli_epi16(_mm512_and_si512(steps[2 * j + 1], low), 4)));
}

// Columns [32 g, 32 g + 32) of a row of the fine layer.
void store_fine(const std::uint8_t (&integers)[SketchLayout::kGroupColumns], std::int64_t g, std::byte* row) {
  auto* const out = reinterpret_cast<__m128i*>(row + g / 2 * kLanes);
  const auto* const in = reinterpret_cast<const __m128i*>(integers);
  const __m128i low = _mm_set1_epi8(kCoarser - 1);
  const __m128i first = _mm_and_si128(_mm_loadu_si128(in), low), second = _mm_and_si128(_mm_loadu_si128(in + 1), low);
  const __m128i two = _mm_or_si128(first, _mm_slli_epi16(second, 2));
  _mm_storeu_si128(out, g % 2 == 0 ? two : _mm_or_si128(_mm_loadu_si128(out), _mm_slli_epi16(two, 4)));
}

template <int kPlanes>
__m512i with_planes(__m512i low, const std::byte* planes, int step) {
  CAJAL_UNROLL for (int p = 0; p < kPlanes; ++p) {
    std::uint64_t plane;
    std::memcpy(&plane, planes + p * SketchLayout::kPlaneBytes + step * 8, sizeof plane);
    low = _mm512_mask_add_epi8(low, plane, low, _mm512_set1_epi8(static_cast<char>(16 << p)));
  }
  return low;
}

void dot(__m512i& sum, __m512i weights, const std::int8_t* four) {
  std::int32_t x;
  std::memcpy(&x, four, sizeof x);
  // Not the intrinsic, as in quant_blocks_avx512_vnni.cpp.
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(_mm512_set1_epi32(x)));
}

// sums[i] += the group's part of the products of input i, all row scales being 1.
template <int kInputs, int kPlanes>
void add_group(const SketchInput* inputs, const std::byte* group, __m512 scales, std::int64_t g,
               __m512 (&sums)[kInputs]) {
  __m512i even[kInputs], odd[kInputs];
  CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) even[i] = odd[i] = _mm512_setzero_si512();
  const __m512i low = _mm512_set1_epi8(15);
  const std::byte* const planes = group + SketchLayout::kLowBytes;
  CAJAL_UNROLL for (int j = 0; j < kPairs; ++j) {
    const __m512i both = _mm512_loadu_si512(group + j * 64);
    const __m512i first = with_planes<kPlanes>(_mm512_and_si512(both, low), planes, 2 * j);
    const __m512i second = with_planes<kPlanes>(_mm512_and_si512(_mm512_srli_epi16(both, 4), low), planes, 2 * j + 1);
    CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) {
      const std::int8_t* const x = inputs[i].integers.data() + g * SketchLayout::kGroupColumns + 8 * j;
      dot(even[i], first, x);
      dot(odd[i], second, x + 4);
    }
  }
  CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) {
    const auto at = static_cast<std::size_t>(g);
    const __m512 products = _mm512_cvtepi32_ps(_mm512_add_epi32(even[i], odd[i]));
    const __m512 group_sum = _mm512_fmsub_ps(products, _mm512_set1_ps(inputs[i].coarse_factors[at]),
                                             _mm512_set1_ps(inputs[i].coarse_offsets[at]));
    sums[i] = _mm512_fmadd_ps(scales, group_sum, sums[i]);
  }
}

template <int kInputs, int kPlanes>
void bound_tiles(const SketchLayout& layout, const std::byte* sketch, const SketchRows* of_tiles,
                 const SketchInput* inputs, std::int64_t begin, std::int64_t end, const SketchBounds* bounds) {
  const std::int64_t group_bytes = layout.group_bytes(), units = layout.units();
  const std::int64_t ahead = follows_streams() ? kBytesAheadOfFollower : kBytesAhead;
  for (std::int64_t t = begin; t < end; ++t) {
    const std::byte* const tile = sketch + t * layout.tile_bytes();
    __m512 sums[kInputs];
    CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) sums[i] = _mm512_setzero_ps();
    for (std::int64_t u = 0; u < units; ++u) {
      const std::byte* const unit = tile + u * layout.unit_bytes();
      _mm_prefetch(reinterpret_cast<const char*>(unit) + ahead, _MM_HINT_T0);
      for (int g = 0; g < SketchLayout::kUnitGroups; ++g) {
        const std::byte* const group = unit + SketchLayout::kScalesBytes + g * group_bytes;
        CAJAL_UNROLL for (int line = 0; line < 4 + kPlanes; ++line)
            _mm_prefetch(reinterpret_cast<const char*>(group) + ahead + line * 64, _MM_HINT_T0);
        const __m128i scales = _mm_loadu_si128(reinterpret_cast<const __m128i*>(unit + g * kLanes));
        add_group<kInputs, kPlanes>(inputs, group, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(scales)),
                                    u * SketchLayout::kUnitGroups + g, sums);
      }
    }
    const SketchRows& rows = of_tiles[t];
    const __m512 scale = _mm512_loadu_ps(rows.scale), norm = _mm512_loadu_ps(rows.norm);
    const __m512 error = _mm512_loadu_ps(rows.error);
    CAJAL_UNROLL for (int i = 0; i < kInputs; ++i) {
      const __m512 off =
          _mm512_fmadd_ps(error, _mm512_set1_ps(inputs[i].norm), _mm512_mul_ps(norm, _mm512_set1_ps(inputs[i].noise)));
      const __m512 of_rows = _mm512_fmadd_ps(sums[i], scale, off);
      _mm512_storeu_ps(bounds[i].of_rows + t * kLanes, of_rows);
      bounds[i].of_tiles[t] = _mm512_reduce_max_ps(of_rows);
    }
  }
}

// What the fine layer adds to the product of a row whose scale is 1. `factors` has room for those of all groups.
float fine_product(const SketchLayout& layout, const std::byte* row, const SketchInput& input, float* factors) {
  const std::byte* const scales = row + layout.fine_scales_at();
  __m512 offsets = _mm512_setzero_ps();
  for (std::int64_t g = 0; g < layout.groups(); g += kLanes) {
    const auto here = static_cast<__mmask16>((1u << std::min<std::int64_t>(kLanes, layout.groups() - g)) - 1);
    const __m512 scale = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(here, scales + g)));
    _mm512_mask_storeu_ps(factors + g, here,
                          _mm512_mul_ps(scale, _mm512_maskz_loadu_ps(here, input.fine_factors.data() + g)));
    offsets = _mm512_fmadd_ps(scale, _mm512_maskz_loadu_ps(here, input.fine_offsets.data() + g), offsets);
  }
  // Lanes 0 to 7 are of the first of two groups, the others of the second.
  const __m512i turns = _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
  const __m512i which = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (std::int64_t g = 0; g < layout.groups(); g += SketchLayout::kUnitGroups) {
    CAJAL_UNROLL for (int i = 0; i < 2; ++i) {
      const std::int64_t at = g + 2 * i;
      const __m512i bits = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + at * 8)));
      const __m512i integers = _mm512_and_si512(_mm512_srlv_epi32(bits, turns), _mm512_set1_epi8(kCoarser - 1));
      const __m512i x = _mm512_loadu_si512(input.integers.data() + at * SketchLayout::kGroupColumns);
      __m512i products = _mm512_setzero_si512();
      __asm__("vpdpbusd %2, %1, %0" : "+v"(products) : "v"(integers), "v"(x));
      double two;
      std::memcpy(&two, factors + at, sizeof two);
      const __m512 by = _mm512_permutexvar_ps(which, _mm512_castpd_ps(_mm512_set1_pd(two)));
      sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), by, sums[i]);
    }
  }
  return _mm512_reduce_add_ps(_mm512_sub_ps(_mm512_add_ps(sums[0], sums[1]), offsets));
}

void fetch_row(const std::byte* row, std::int64_t bytes) {
  for (std::int64_t at = 0; at < bytes + 63; at += 64)
    _mm_prefetch(reinterpret_cast<const char*>(row) + at, _MM_HINT_T0);
}

void refine_avx512(const SketchLayout& layout, const std::byte* sketch, const SketchInput& input, std::int64_t begin,
                   std::int64_t end, float threshold, const SketchBounds& bounds) {
  constexpr std::int64_t kTilesAtOnce = 128;
  const std::int64_t rows_ahead = std::max<std::int64_t>(2, kBytesAhead / layout.fine_row_bytes());
  const std::byte* const fine = sketch + layout.coarse_bytes();
  const std::int64_t bytes = layout.fine_row_bytes();
  const __m512 limit = _mm512_set1_ps(threshold);
  float factors[kMostGroups];
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
      float bound = bounds.of_rows[rows[i]], behind[2];
      std::memcpy(behind, row + layout.fine_end_at(), sizeof behind);
      if (std::isfinite(bound)) bound += fine_product(layout, row, input, factors) * behind[0] - behind[1] * input.norm;
      float& of_tile = bounds.of_tiles[rows[i] / kLanes];
      if (!(bound < threshold)) of_tile = std::max(of_tile, bound);
    }
  }
}

// A scale of 0 is one of a row of which nothing is stored.
float scale_of_row(const float* row, std::int64_t columns, bool& bounded) {
  float largest = 0;
  bool numbers = true;
  for (std::int64_t k = 0; k < columns; k += SketchLayout::kGroupColumns) {
    const __m512 a = _mm512_loadu_ps(row + k), b = _mm512_loadu_ps(row + k + kLanes);
    numbers = numbers && !_mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
    largest = std::max(largest, largest_of(row + k));
  }
  bounded = numbers && largest <= kLargestNorm / static_cast<float>(columns);
  const float scale = largest / (kLargestScale * kMiddle);
  return bounded && scale >= kLeastScale ? scale : 0;
}

void sketch_tile_avx512(const SketchLayout& layout, std::int64_t tile, const float* rows, std::byte* sketch,
                        SketchRows& of_tile) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::byte* const out = sketch + tile * layout.tile_bytes();
  std::byte* const fine = sketch + layout.coarse_bytes() + tile * kLanes * layout.fine_row_bytes();
  const std::int64_t columns = layout.padded_columns();
  const int here = static_cast<int>(std::min<std::int64_t>(kLanes, layout.rows - tile * kLanes));
  RowSums sums[kLanes];
  bool bounded[kLanes] = {};
  float inverse[kLanes] = {};
  for (int n = 0; n < kLanes; ++n) {
    sums[n].coarse_errors = sums[n].fine_errors = sums[n].squares = _mm512_setzero_ps();
    of_tile.scale[n] = n < here ? scale_of_row(rows + n * columns, columns, bounded[n]) : 0;
    if (of_tile.scale[n] > 0) inverse[n] = 1 / (of_tile.scale[n] * kMiddle);
  }
  for (std::int64_t g = 0; g < layout.groups(); ++g) {
    std::byte* const unit = out + g / SketchLayout::kUnitGroups * layout.unit_bytes();
    std::byte* const scales = unit + g % SketchLayout::kUnitGroups * kLanes;
    std::uint8_t integers[kLanes][SketchLayout::kGroupColumns] = {};
    for (int n = 0; n < kLanes; ++n) {
      const bool stored = of_tile.scale[n] > 0;
      const float* const group = rows + n * columns + g * SketchLayout::kGroupColumns;
      const float wanted = stored ? std::ceil(largest_of(group) * inverse[n]) : 0;
      const float scale = std::clamp(wanted, 1.0f, kLargestScale);
      scales[n] = static_cast<std::byte>(static_cast<int>(scale));
      if (bounded[n]) round_group(group, stored ? scale * of_tile.scale[n] : 1, integers[n], sums[n]);
      if (!layout.two_layers) continue;
      std::byte* const row = fine + n * layout.fine_row_bytes();
      store_fine(integers[n], g, row);
      row[layout.fine_scales_at() + g] = scales[n];
    }
    store_coarse(integers, layout.two_layers,
                 unit + SketchLayout::kScalesBytes + g % SketchLayout::kUnitGroups * layout.group_bytes());
  }
  for (int n = 0; n < kLanes; ++n) {
    const float norm = std::sqrt(_mm512_reduce_add_ps(sums[n].squares)) * kRoundUp;
    float coarse = std::sqrt(_mm512_reduce_add_ps(sums[n].coarse_errors)) * kRoundUp;
    float fine_error = std::sqrt(_mm512_reduce_add_ps(sums[n].fine_errors)) * kRoundUp;
    if (of_tile.scale[n] == 0) coarse = fine_error = norm;  // all error
    if (!layout.two_layers) coarse = fine_error;
    of_tile.norm[n] = kLeastNorm + norm + coarse;
    if (n >= here || !bounded[n]) coarse = n < here ? kInfinity : -kInfinity;
    of_tile.error[n] = coarse;
    if (!layout.two_layers) continue;
    const float behind[2] = {of_tile.scale[n], bounded[n] ? coarse - fine_error : 0};
    std::memcpy(fine + n * layout.fine_row_bytes() + layout.fine_end_at(), behind, sizeof behind);
  }
}

}  // namespace
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {

SketchInput::SketchInput(const SketchLayout& layout) : integers(static_cast<std::size_t>(layout.padded_columns())) {
  for (auto* of_groups : {&coarse_factors, &coarse_offsets, &fine_factors, &fine_offsets})
    of_groups->resize(static_cast<std::size_t>(layout.groups()));
}

void SketchInput::set_group(const SketchLayout& layout, std::int64_t g, float unit, std::int32_t sum) {
  const auto at = static_cast<std::size_t>(g);
  // With u = v / 4 and c = v % 4, v - 31.5 = (4 u - 30) + (c - 1.5).
  constexpr float kFineMiddle = (kCoarser - 1) / 2.0f;
  const float all = unit * static_cast<float>(sum);
  coarse_factors[at] = layout.two_layers ? kCoarser * unit : unit;
  coarse_offsets[at] = (layout.two_layers ? kMiddle - kFineMiddle : kMiddle) * all;
  fine_factors[at] = unit;
  fine_offsets[at] = kFineMiddle * all;
}

bool can_sketch(std::uint32_t isa) { return (isa & kAvx512Vnni) != 0; }

void sketch_tile(const SketchLayout& layout, std::int64_t tile, const float* rows, std::byte* sketch,
                 SketchRows& of_tile) {
  sketch_tile_avx512(layout, tile, rows, sketch, of_tile);
}

void sketch_bounds(const SketchLayout& layout, const std::byte* sketch, const SketchRows* of_tiles,
                   const SketchInput* inputs, int num_inputs, std::int64_t begin, std::int64_t end,
                   const SketchBounds* bounds) {
  CAJAL_CHECK(num_inputs >= 1 && num_inputs <= kMostSketchInputs);
  using Bound = void (*)(const SketchLayout&, const std::byte*, const SketchRows*, const SketchInput*, std::int64_t,
                         std::int64_t, const SketchBounds*);
  static constexpr Bound kBound[kMostSketchInputs][2] = {{bound_tiles<1, 0>, bound_tiles<1, 2>},
                                                         {bound_tiles<2, 0>, bound_tiles<2, 2>},
                                                         {bound_tiles<3, 0>, bound_tiles<3, 2>},
                                                         {bound_tiles<4, 0>, bound_tiles<4, 2>}};
  kBound[num_inputs - 1][layout.two_layers ? 0 : 1](layout, sketch, of_tiles, inputs, begin, end, bounds);
}

void refine_bounds(const SketchLayout& layout, const std::byte* sketch, const SketchInput& input, std::int64_t begin,
                   std::int64_t end, float threshold, const SketchBounds& bounds) {
  CAJAL_CHECK(layout.two_layers && layout.groups() <= kMostGroups);
  refine_avx512(layout, sketch, input, begin, end, threshold, bounds);
}

}  // namespace cajal::cpu
