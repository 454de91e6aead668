#include "checkpoint/dummy_weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <variant>

#include "base/error.h"
#include "checkpoint/convert.h"

namespace cajal {
namespace {

constexpr std::int64_t kBlock = 256;  // elements made at a time

// The numbers of one checkpoint tensor.
DummyNumbers numbers_of(std::uint64_t seed, const std::string& name, bool vector) {
  DummyNumbers numbers;
  numbers.key = mix_bits(seed + kHashStep);
  for (const char c : name) numbers.key = mix_bits(numbers.key ^ static_cast<unsigned char>(c)) + kHashStep;
  constexpr float kUniformOfUnitDeviation = 1.7320508f;  // half the width: sqrt(3)
  const bool around_one = vector && !name.ends_with("bias");
  numbers.mean = around_one ? 1.0f : 0.0f;
  numbers.step = (around_one ? 0.05f : 0.02f * kUniformOfUnitDeviation) / 32768.0f;
  return numbers;
}

// Elements first .. first + kBlock of the tensor; `first` is a multiple of kNumbersPerHash.
void make_block(const DummyNumbers& numbers, std::int64_t first, std::array<float, kBlock>& out) {
  std::array<std::uint64_t, kBlock / kNumbersPerHash> hashes;
  const auto start = static_cast<std::uint64_t>(first / kNumbersPerHash);
  for (std::uint64_t i = 0; i < hashes.size(); ++i) hashes[i] = numbers.hash(start + i);
  const auto lanes = std::bit_cast<std::array<std::uint16_t, kBlock>>(hashes);
  for (std::size_t i = 0; i < kBlock; ++i) out[i] = numbers.value(lanes[i]);
}

void write(const DummyNumbers& numbers, std::int64_t first, std::int64_t count, DType to, std::byte* out) {
  std::array<float, kBlock> values;
  for (std::int64_t at = 0; at < count;) {
    const std::int64_t skip = (first + at) % kNumbersPerHash, n = std::min(count - at, kBlock - skip);
    make_block(numbers, first + at - skip, values);
    convert_elements(DType::f32, reinterpret_cast<const std::byte*>(values.data() + skip), to,
                     out + at * static_cast<std::int64_t>(size_of(to)), n);
    at += n;
  }
}

DummyNumbers numbers_of(std::uint64_t seed, const WeightPiece& piece, std::int64_t index) {
  return numbers_of(seed, name_of_repeat(piece.name, index), piece.shape.rank() == 1);
}

void check_dtype(DType to) {
  if (!is_weight_dtype(to)) fail(ErrorCode::unsupported, "weights as ", to_string(to), ", expected bf16, f16 or f32");
}

}  // namespace

void fill_dummy(const WeightRequest& request, std::uint64_t seed, const WeightPlace& destination, Staging& staging) {
  const DType to = request.type.dtype;
  check_dtype(to);
  const WeightLayout layout = weight_layout(request);
  const auto& pieces = request.parameter.pieces;
  const auto produce = [&](const RowRange& range, std::byte* out, std::span<std::byte>) {
    const WeightSegment& s = range.segment;
    const DummyNumbers numbers = numbers_of(seed, pieces[s.piece], range.index);
    const std::int64_t row = s.source_row + range.first, columns = s.columns;
    if (columns == s.source_columns && columns == range.stride) {
      write(numbers, row * columns, range.rows * columns, to, out);
      return;
    }
    for (std::int64_t r = 0; r < range.rows; ++r)
      write(numbers, (row + r) * s.source_columns + s.source_column, columns, to,
            out + r * range.stride * static_cast<std::int64_t>(size_of(to)));
  };
  fill_weight(layout, {0, produce}, destination, staging);
}

std::vector<DummyRows> dummy_rows(const WeightRequest& request, std::uint64_t seed) {
  check_dtype(request.type.dtype);
  const WeightLayout layout = weight_layout(request);
  CAJAL_CHECK(layout.whole_rows, "rows of which a rank has some columns are not made by a recipe");
  std::vector<DummyRows> rows;
  for (std::int64_t index = 0; index < layout.repeats; ++index)
    for (const WeightSegment& s : layout.segments)
      rows.push_back({numbers_of(seed, request.parameter.pieces[s.piece], layout.first_repeat + index), index, s.row,
                      s.rows, s.source_row, s.source_column, s.source_columns});
  return rows;
}

std::uint64_t fill_all_dummy(const Graph& graph, TensorParallelRank rank, std::uint64_t seed, WeightSink& sink,
                             Staging& staging) {
  return for_each_parameter(graph, rank, sink, [&](const WeightRequest& request, const WeightPlace& destination) {
    if (destination.rows && destination.rows->makes_dummy_rows() && weight_layout(request).whole_rows)
      destination.rows->make(dummy_rows(request, seed));
    else
      fill_dummy(request, seed, destination, staging);
  });
}

}  // namespace cajal
