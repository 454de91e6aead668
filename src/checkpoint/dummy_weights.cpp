#include "checkpoint/dummy_weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <variant>

#include "base/error.h"
#include "checkpoint/convert.h"

namespace cajal {
namespace {

constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio: multiples of it spread evenly
constexpr std::int64_t kBlock = 256;                 // elements made at a time
constexpr std::int64_t kLanes = 4;                   // elements from one hash, 16 bits each

// SplitMix64's finaliser: every input bit reaches every output bit.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

// The numbers of one checkpoint tensor.
struct Generator {
  std::uint64_t key = 0;
  float mean = 0, step = 0;  // the value of a 16-bit lane is mean + (lane - 32767.5) x step

  Generator(std::uint64_t seed, const std::string& name, bool vector) : key(mix(seed + kOdd)) {
    for (const char c : name) key = mix(key ^ static_cast<unsigned char>(c)) + kOdd;
    constexpr float kUniformOfUnitDeviation = 1.7320508f;  // half the width: sqrt(3)
    const bool around_one = vector && !name.ends_with("bias");
    mean = around_one ? 1.0f : 0.0f;
    step = (around_one ? 0.05f : 0.02f * kUniformOfUnitDeviation) / 32768.0f;
  }

  // Elements first .. first + kBlock of the tensor; `first` is a multiple of kLanes.
  void block(std::int64_t first, std::array<float, kBlock>& out) const {
    std::array<std::uint64_t, kBlock / kLanes> hashes;
    const std::uint64_t start = key + static_cast<std::uint64_t>(first / kLanes) * kOdd;
    for (std::uint64_t i = 0; i < hashes.size(); ++i) hashes[i] = mix(start + i * kOdd);
    const auto lanes = std::bit_cast<std::array<std::uint16_t, kBlock>>(hashes);
    for (std::size_t i = 0; i < kBlock; ++i) out[i] = mean + (static_cast<float>(lanes[i]) - 32767.5f) * step;
  }

  void write(std::int64_t first, std::int64_t count, DType to, std::byte* out) const {
    std::array<float, kBlock> values;
    for (std::int64_t at = 0; at < count;) {
      const std::int64_t skip = (first + at) % kLanes, n = std::min(count - at, kBlock - skip);
      block(first + at - skip, values);
      convert_elements(DType::f32, reinterpret_cast<const std::byte*>(values.data() + skip), to,
                       out + at * static_cast<std::int64_t>(size_of(to)), n);
      at += n;
    }
  }
};

}  // namespace

void fill_dummy(const WeightRequest& request, std::uint64_t seed, std::byte* destination, Staging& staging) {
  const DType to = request.type.dtype;
  if (!is_weight_dtype(to)) fail(ErrorCode::unsupported, "weights as ", to_string(to), ", expected bf16, f16 or f32");
  const WeightLayout layout = weight_layout(request);
  const auto& pieces = request.parameter.pieces;
  const auto produce = [&](const RowRange& range, std::byte* out, std::span<std::byte>) {
    const WeightSegment& s = range.segment;
    const WeightPiece& piece = pieces[s.piece];
    const Generator generator(seed, name_of_repeat(piece.name, range.index), piece.shape.rank() == 1);
    const std::int64_t row = s.source_row + range.first, columns = layout.columns;
    if (columns == s.source_columns) {
      generator.write(row * columns, range.rows * columns, to, out);
      return;
    }
    for (std::int64_t r = 0; r < range.rows; ++r)
      generator.write((row + r) * s.source_columns + s.source_column, columns, to,
                      out + r * columns * static_cast<std::int64_t>(size_of(to)));
  };
  fill_weight(layout, {0, produce}, destination, staging);
}

std::uint64_t fill_all_dummy(const Graph& graph, TensorParallelRank rank, std::uint64_t seed, WeightSink& sink,
                             Staging& staging) {
  return for_each_parameter(graph, rank, sink, [&](const WeightRequest& request, std::byte* destination) {
    fill_dummy(request, seed, destination, staging);
  });
}

}  // namespace cajal
