#include "checkpoint/weight_layout.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/pack.h"

namespace cajal {
namespace {

// Bytes of result that one thread makes at a time: enough that a read is worth its system call, few enough that what was
// read is still in the core's own cache when it is packed.
constexpr std::int64_t kChunkBytes = std::int64_t{512} << 10;

template <class... Parts>
[[noreturn]] void mismatch(const WeightRequest& request, const Parts&... parts) {
  const auto& pieces = request.parameter.pieces;
  fail(ErrorCode::invalid_argument, "parameter ", pieces.empty() ? "without pieces" : pieces.front().name, " as ",
       to_string(request.type), " for rank ", request.rank.rank, " of ", request.rank.world, ": ", parts...,
       remedy("the graph was made for another parallel degree or model; export it again"));
}

// The share of one dimension: [begin, begin + size).
struct Share {
  std::int64_t begin, size;
};
Share share_of(const WeightRequest& request, const WeightPiece& piece, int dim) {
  const std::int64_t whole = piece.shape[dim];
  if (piece.sharding.dim != dim || piece.sharding.parts == 1) return {0, whole};
  const int parts = piece.sharding.parts, world = request.rank.world;
  if (parts < 1 || parts > world || world % parts != 0)
    mismatch(request, piece.name, " is cut into ", parts, " parts, which ", world, " ranks cannot share evenly");
  if (whole % parts != 0)
    mismatch(request, piece.name, " ", to_string(piece.shape), " is cut into ", parts, " parts along dimension ", dim);
  const std::int64_t size = whole / parts;
  return {size * (std::int64_t{request.rank.rank} * parts / world), size};
}

// One piece whose rows the type has more of: shares of type.rows rows, padded at the end of the last.
bool pad_rows(const WeightRequest& request, WeightLayout& layout) {
  const WeightPiece& piece = request.parameter.pieces.front();
  const bool cut = piece.sharding.dim == 0 && piece.sharding.parts > 1;
  if (request.parameter.pieces.size() != 1 || request.parameter.stacked() || piece.shape.rank() != 2) return false;
  if (piece.sharding.dim > 0) return false;
  const std::int64_t parts = cut ? piece.sharding.parts : 1, whole = piece.shape[0];
  if (request.rank.world % parts != 0 || checked_mul(layout.rows, parts, "rows of a padded weight") <= whole)
    return false;
  const std::int64_t begin = std::min(whole, layout.rows * (request.rank.rank * parts / request.rank.world));
  layout.segments = {{0, 0, std::min(layout.rows, whole - begin), begin, 0, piece.shape[1]}};
  layout.columns = piece.shape[1];
  return true;
}

}  // namespace

WeightLayout weight_layout(const WeightRequest& request) {
  const ops::Parameter& parameter = request.parameter;
  const TensorType& type = request.type;
  if (parameter.pieces.empty() || parameter.repeat < 1) mismatch(request, "nothing to load it from");
  if (request.rank.world < 1 || request.rank.rank < 0 || request.rank.rank >= request.rank.world)
    mismatch(request, "no such rank");
  const int rank = parameter.pieces.front().shape.rank();
  if (rank < 1 || rank > 2 || type.shape.dynamic()) mismatch(request, "weights are vectors or matrices");
  const bool repeated = parameter.stacked();
  if (type.shape.rank() != rank + (repeated ? 1 : 0))
    mismatch(request, "expected ", rank + (repeated ? 1 : 0), " dimensions");
  if (rank == 1 && !type.plain()) mismatch(request, "vectors are stored plain");

  WeightLayout layout;
  layout.count = parameter.repeat;
  if (repeated && type.shape[0] != parameter.repeat) mismatch(request, "expected ", parameter.repeat, " matrices");
  layout.matrix = {type.dtype, {}, type.storage};
  for (int i = repeated ? 1 : 0; i < type.shape.rank(); ++i) layout.matrix.shape.push_back(type.shape[i]);
  layout.rows = layout.matrix.shape[0];
  const std::int64_t columns = rank == 2 ? layout.matrix.shape[1] : 1;

  if (!pad_rows(request, layout)) {
    std::int64_t row = 0;
    for (std::size_t i = 0; i < parameter.pieces.size(); ++i) {
      const WeightPiece& piece = parameter.pieces[i];
      if (piece.shape.rank() != rank || piece.sharding.dim >= rank || piece.shape.dynamic())
        mismatch(request, piece.name, " ", to_string(piece.shape), " does not join with the others");
      const Share rows = share_of(request, piece, 0);
      const Share across = rank == 2 ? share_of(request, piece, 1) : Share{0, 1};
      if (across.size != columns) mismatch(request, piece.name, " gives ", across.size, " columns");
      layout.segments.push_back({i, row, rows.size, rows.begin, across.begin, rank == 2 ? piece.shape[1] : 1});
      row = checked_add(row, rows.size, "rows of a weight");
    }
    if (row != layout.rows) mismatch(request, "the pieces give ", row, " rows");
    layout.columns = columns;
  }
  if (layout.columns != columns) mismatch(request, "the pieces give ", layout.columns, " columns");
  return layout;
}

std::string name_of_repeat(const std::string& pattern, std::int64_t index) {
  std::string name;
  for (const char c : pattern) {
    if (c == '*')
      name += std::to_string(index);
    else
      name += c;
  }
  return name;
}

void fill_weight(const WeightLayout& layout, const RowProducer& producer, std::byte* destination, Staging& staging) {
  if (layout.rows == 0 || layout.columns == 0) return;
  const auto row_bytes = layout.columns * static_cast<std::int64_t>(size_of(layout.matrix.dtype));
  const std::size_t matrix_bytes = layout.matrix.bytes();
  CAJAL_CHECK(!std::holds_alternative<Quantized>(layout.matrix.storage), "no loader for ", to_string(layout.matrix));
  const auto* packed = std::get_if<Packed>(&layout.matrix.storage);
  const std::int64_t tile = packed ? packed->rows : 1;
  // Whole tiles, so that no two threads write to one; experts smaller than a chunk are a chunk each.
  const std::int64_t step = std::max<std::int64_t>(kChunkBytes / row_bytes / tile, 1) * tile;
  const std::int64_t per_matrix = ceil_div(layout.rows, step);
  const std::size_t rows_to_pack = packed ? static_cast<std::size_t>(std::min(step, layout.rows) * row_bytes) : 0;

  const auto plain_rows = [&](std::int64_t index, std::int64_t begin, std::int64_t end, std::byte* out,
                              std::span<std::byte> scratch) {
    std::int64_t done = begin;
    for (const WeightSegment& s : layout.segments) {
      const std::int64_t from = std::max(begin, s.row), to = std::min(end, s.row + s.rows);
      if (from >= to) continue;
      producer.produce({index, s, from - s.row, to - from}, out + (from - begin) * row_bytes, scratch);
      done = to;
    }
    std::memset(out + (done - begin) * row_bytes, 0, static_cast<std::size_t>((end - done) * row_bytes));
  };

  std::mutex mutex;
  std::exception_ptr failure;  // the first; the pool's body must not throw
  std::atomic<bool> failed{false};
  staging.pool().parallel_for(layout.count * per_matrix, 1, [&](std::int64_t first_task, std::int64_t last_task) {
    for (std::int64_t task = first_task; task < last_task && !failed; ++task) try {
        const std::int64_t index = task / per_matrix, begin = task % per_matrix * step;
        const std::int64_t rows = std::min(step, layout.rows - begin);
        std::byte* matrix = destination + static_cast<std::size_t>(index) * matrix_bytes;
        // One lease for both needs: threads that hold one and wait for another would wait for each other.
        Staging::Lease lease(staging, producer.scratch_bytes + rows_to_pack);
        const auto scratch = lease.bytes().first(producer.scratch_bytes);
        std::byte* const plain =
            rows_to_pack ? lease.bytes().data() + producer.scratch_bytes : matrix + begin * row_bytes;
        plain_rows(index, begin, begin + rows, plain, scratch);
        if (rows_to_pack) pack_rows(layout.matrix, begin, rows, plain, matrix);
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (!failed.exchange(true)) failure = std::current_exception();
      }
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace cajal
