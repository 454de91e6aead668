#include "backends/cpu/head_sketch.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/thread_pool.h"
#include "tensor/pack.h"
#include "tensor/quantized.h"

namespace cajal::cpu {
namespace {

constexpr std::int64_t kLeastHeadBytes = std::int64_t{16} << 20;  // smaller ones stay in a cache

// Rows [first, first + count) of the head as f32, `stride` floats from one to the next: columns of padding, which are zeros, up
// to the end of the last group.
void read_quantized(const QuantizedLayout& l, const std::byte* weight, std::int64_t first, std::int64_t count,
                    std::int64_t stride, float* rows) {
  const std::int64_t size = l.storage.group_size, step = std::int64_t{4} * l.storage.tile_rows;
  for (std::int64_t i = 0; i < count; ++i) {
    const float row_scale = quantized_row_scale(l, weight, first + i);
    for (std::int64_t g = 0; g < l.groups(); ++g) {
      const int scale = quantized_scale(l, weight, first + i, g);
      const std::byte* at = weight + l.integer_at(first + i, g, 0);
      float* const out = rows + i * stride + g * size;
      for (std::int64_t k = 0; k < size; k += 4, at += step) {
        std::uint8_t four[4];
        std::memcpy(four, at, sizeof four);
        for (int j = 0; j < 4; ++j) out[k + j] = static_cast<float>((four[j] - kInt8Offset) * scale) * row_scale;
      }
    }
  }
}

void read_unrounded(const TensorType& type, const std::byte* weight, std::int64_t first, std::int64_t count,
                    std::int64_t stride, float* rows, std::vector<std::byte>& dense) {
  const std::int64_t columns = type.shape[1];
  const auto element = static_cast<std::int64_t>(size_of(type.dtype));
  unpack_rows(type, first, count, weight, dense.data());
  for (std::int64_t i = 0; i < count; ++i) {
    const std::byte* const from = dense.data() + i * columns * element;
    float* const out = rows + i * stride;
    if (type.dtype == DType::f32) {
      std::memcpy(out, from, static_cast<std::size_t>(columns) * sizeof(float));
      continue;
    }
    for (std::int64_t k = 0; k < columns; ++k) {
      std::uint16_t bits;
      std::memcpy(&bits, from + k * 2, sizeof bits);
      out[k] = bf16_to_float(bits);
    }
  }
}

}  // namespace

bool HeadSketch::wanted() {
  const char* const set = std::getenv("CAJAL_HEAD_SKETCH");
  const std::string_view word = set ? set : "";
  if (word == "off") return false;
  if (word.empty() || word == "on") return true;
  fail(ErrorCode::invalid_argument, "CAJAL_HEAD_SKETCH is '", word, "', expected on or off");
}

bool HeadSketch::pays_for(const TensorType& head, std::uint32_t isa) {
  if (!can_sketch(isa) || head.shape.rank() != 2 || (head.dtype != DType::bf16 && head.dtype != DType::f32))
    return false;
  const std::int64_t tile = rows_per_tile(head);
  const bool shares_tiles = SketchLayout::kTileRows % tile == 0 || tile % SketchLayout::kTileRows == 0;
  const auto bytes = static_cast<std::int64_t>(head.bytes());
  const bool reads_less = 4 * layout_of(head).coarse_bytes() <= 3 * bytes;
  return shares_tiles && reads_less && bytes >= kLeastHeadBytes && (!head.quantized() || head.quantized()->bits == 8);
}

SketchLayout HeadSketch::layout_of(const TensorType& head) { return {head.shape[0], head.shape[1]}; }

HeadSketch::HeadSketch(const TensorType& head, std::unique_ptr<Buffer> memory)
    : head_(head), layout_(layout_of(head)), memory_(std::move(memory)) {
  CAJAL_CHECK(memory_->bytes() >= static_cast<std::size_t>(layout_.bytes()));
}

void HeadSketch::make(const std::byte* weight, ThreadPool& pool) {
  std::byte* const sketch = memory_->host_view().data();
  const std::int64_t stride = layout_.padded_columns();
  const std::vector<float> dither = sketch_dither(layout_);
  pool.parallel_for(layout_.tiles(), 64, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> rows(static_cast<std::size_t>(SketchLayout::kTileRows * stride));
    std::vector<std::byte> dense(static_cast<std::size_t>(SketchLayout::kTileRows * layout_.columns) * sizeof(float));
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t first = t * SketchLayout::kTileRows;
      const std::int64_t count = std::min<std::int64_t>(SketchLayout::kTileRows, layout_.rows - first);
      if (const Quantized* q = head_.quantized())
        read_quantized({*q, layout_.rows, layout_.columns}, weight, first, count, stride, rows.data());
      else
        read_unrounded(head_, weight, first, count, stride, rows.data(), dense);
      sketch_tile(layout_, t, rows.data(), dither.data(), sketch);
    }
  });
  made_ = true;
}

void HeadSketch::bound(const SketchInput* inputs, int num_inputs, const SketchBounds* bounds, ThreadPool& pool) const {
  const std::int64_t most = std::max<std::int64_t>(1, (std::int64_t{512} << 10) / layout_.tile_bytes());
  const std::int64_t grain = std::clamp<std::int64_t>(layout_.tiles() / (8 * pool.size()), 1, most);
  pool.parallel_for_runs(layout_.tiles(), grain, [&](std::int64_t begin, std::int64_t end) {
    sketch_bounds(layout_, bytes(), inputs, num_inputs, begin, end, bounds);
  });
}

void HeadSketch::refine(const SketchInput& input, float threshold, const SketchBounds& bounds, ThreadPool& pool) const {
  constexpr std::int64_t kTiles = 128;
  pool.parallel_for(layout_.tiles(), kTiles, [&](std::int64_t begin, std::int64_t end) {
    refine_bounds(layout_, bytes(), input, begin, end, threshold, bounds);
  });
}

}  // namespace cajal::cpu
