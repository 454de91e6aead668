#include "checkpoint/weight_layout.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/pack.h"
#include "tensor/quantized.h"

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

// Elements of a piece along one dimension: `size` from `source` on are those of the share from `at` on.
struct Run {
  std::int64_t at, size, source;
};
struct Share {
  std::int64_t size;
  std::vector<Run> runs;
};

Share share_of(const WeightRequest& request, const WeightPiece& piece, int dim) {
  const std::int64_t whole = piece.shape[dim];
  const Sharding& sharding = piece.sharding;
  if (sharding.dim != dim || sharding.replicated()) return {whole, {{0, whole, 0}}};
  const int parts = sharding.parts, world = request.rank.world;
  if (parts < 1 || parts > world || world % parts != 0)
    mismatch(request, piece.name, " is cut into ", parts, " parts, which ", world, " ranks cannot share evenly");
  if (!can_share(sharding, piece.shape))
    mismatch(request, piece.name, " ", to_string(piece.shape), " is cut into ", parts, " parts along dimension ", dim);
  const std::int64_t index = std::int64_t{request.rank.rank} * parts / world;
  Share share{sharding.share(whole), {}};
  if (sharding.units.empty()) {
    const std::int64_t begin = std::min(whole, index * share.size), size = std::min(share.size, whole - begin);
    if (size > 0) share.runs.push_back({0, size, begin});
    return share;
  }
  const std::int64_t count = sharding.units_per_share();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t unit = sharding.units[static_cast<std::size_t>(index * count + i)];
    if (unit < 0) continue;
    const std::int64_t source = unit * sharding.unit;
    const Run run{i * sharding.unit, std::min(sharding.unit, whole - source), source};
    if (!share.runs.empty() && share.runs.back().at + share.runs.back().size == run.at &&
        share.runs.back().source + share.runs.back().size == run.source)
      share.runs.back().size += run.size;
    else
      share.runs.push_back(run);
  }
  return share;
}

// The piece's rectangles, from row `row` of the result on; returns how many rows it has there.
std::int64_t add_piece(const WeightRequest& request, std::size_t index, std::int64_t row, WeightLayout& layout) {
  const WeightPiece& piece = request.parameter.pieces[index];
  const bool matrix = piece.shape.rank() == 2;
  const Share rows = share_of(request, piece, 0);
  const Share across = matrix ? share_of(request, piece, 1) : Share{1, {{0, 1, 0}}};
  if (across.size != layout.columns) mismatch(request, piece.name, " gives ", across.size, " columns");
  for (const Run& down : rows.runs)
    for (const Run& run : across.runs) {
      layout.segments.push_back({.piece = index,
                                 .row = row + down.at,
                                 .rows = down.size,
                                 .column = run.at,
                                 .columns = run.size,
                                 .source_row = down.source,
                                 .source_column = run.source,
                                 .source_columns = matrix ? piece.shape[1] : 1});
      layout.whole_rows = layout.whole_rows && run.size == layout.columns;
    }
  return rows.size;
}

// Which of the matrices that repeat are the rank's.
void share_repeats(const WeightRequest& request, WeightLayout& layout) {
  const ops::Parameter& parameter = request.parameter;
  const TensorParallelRank& rank = request.rank;
  if (parameter.repeat_parts < 1 || (parameter.repeat_parts > 1 && parameter.repeat_parts != rank.expert_world))
    mismatch(request, "shared out in ", parameter.repeat_parts, " parts, and ", rank.expert_world,
             " groups of ranks share experts");
  if (rank.expert_world < 1 || rank.expert_rank < 0 || rank.expert_rank >= rank.expert_world)
    mismatch(request, "no such group of ranks: ", rank.expert_rank, " of ", rank.expert_world);
  layout.count = parameter.repeats_on_rank();
  layout.first_repeat = parameter.repeat_parts > 1 ? std::min(parameter.repeat, rank.expert_rank * layout.count) : 0;
  layout.repeats = std::min(layout.count, parameter.repeat - layout.first_repeat);
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
  share_repeats(request, layout);
  if (repeated && type.shape[0] != layout.count) mismatch(request, "expected ", layout.count, " matrices");
  layout.matrix = {type.dtype, {}, type.storage};
  for (int i = repeated ? 1 : 0; i < type.shape.rank(); ++i) layout.matrix.shape.push_back(type.shape[i]);
  layout.rows = layout.matrix.shape[0];
  layout.columns = rank == 2 ? layout.matrix.shape[1] : 1;

  std::int64_t row = 0;
  for (std::size_t i = 0; i < parameter.pieces.size(); ++i) {
    const WeightPiece& piece = parameter.pieces[i];
    if (piece.shape.rank() != rank || piece.sharding.dim >= rank || piece.shape.dynamic())
      mismatch(request, piece.name, " ", to_string(piece.shape), " does not join with the others");
    row = checked_add(row, add_piece(request, i, row, layout), "rows of a weight");
  }
  if (row != layout.rows) mismatch(request, "the pieces give ", row, " rows");
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

namespace {

// Runs body(first, last) over pieces of [0, n) on all threads; the first of its exceptions is thrown in the end.
template <class Body>
void parallel_for_throwing(ThreadPool& pool, std::int64_t n, const Body& body) {
  std::mutex mutex;
  std::exception_ptr failure;  // the pool's body must not throw
  std::atomic<bool> failed{false};
  pool.parallel_for(n, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last && !failed; ++i) try {
        body(i);
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (!failed.exchange(true)) failure = std::current_exception();
      }
  });
  if (failure) std::rethrow_exception(failure);
}

// Makes plain rows [begin, end) of matrix `index`; returns how many of them there are up to the last that a segment
// covers. What none covers is zero.
std::int64_t make_rows(const WeightLayout& layout, const RowProducer& producer, std::int64_t index, std::int64_t begin,
                       std::int64_t end, std::byte* out, std::span<std::byte> scratch) {
  const auto element = static_cast<std::int64_t>(size_of(layout.matrix.dtype)), row_bytes = layout.columns * element;
  const auto clear = [&](std::int64_t from, std::int64_t to) {
    if (from < to) std::memset(out + (from - begin) * row_bytes, 0, static_cast<std::size_t>((to - from) * row_bytes));
  };
  const bool exists = index < layout.repeats;
  if (!layout.whole_rows || !exists) clear(begin, end);
  if (!exists) return 0;
  std::int64_t done = begin;
  for (const WeightSegment& s : layout.segments) {
    const std::int64_t from = std::max(begin, s.row), to = std::min(end, s.row + s.rows);
    if (from >= to) continue;
    if (layout.whole_rows) clear(done, from);
    producer.produce({layout.first_repeat + index, s, from - s.row, to - from, layout.columns},
                     out + (from - begin) * row_bytes + s.column * element, scratch);
    done = to;
  }
  if (layout.whole_rows) clear(done, end);
  return done - begin;
}

bool cuts_rows(const WeightLayout& layout) {
  return std::any_of(layout.segments.begin(), layout.segments.end(),
                     [](const WeightSegment& s) { return s.columns != s.source_columns; });
}

// Rows that are rounded together although ranks have but parts of them: the largest magnitude of each of rows [begin, end) of
// matrix `index`, all of its source's columns counted.
class WholeRows {
 public:
  WholeRows(const WeightLayout& layout, const RowProducer& producer) : layout_(layout), producer_(producer) {
    for (const WeightSegment& s : layout.segments) {
      const bool another_run = !segments_.empty() && segments_.back().row == s.row;
      if (another_run) continue;
      segments_.push_back(s);
      segments_.back().column = segments_.back().source_column = 0;
      segments_.back().columns = s.source_columns;
      const std::int64_t row_bytes = s.source_columns * element_;
      bytes_ = std::max(bytes_, row_bytes * std::max<std::int64_t>(1, kBytesAtOnce / row_bytes));
    }
  }

  std::size_t bytes() const { return static_cast<std::size_t>(bytes_); }  // of memory that find() takes

  std::vector<float> find(std::int64_t index, std::int64_t begin, std::int64_t end, std::span<std::byte> memory,
                          std::span<std::byte> scratch) const {
    std::vector<float> largest(static_cast<std::size_t>(end - begin), 0.0f);
    if (index >= layout_.repeats) return largest;
    for (const WeightSegment& s : segments_) {
      const std::int64_t from = std::max(begin, s.row), to = std::min(end, s.row + s.rows);
      const std::int64_t step = bytes_ / (s.columns * element_);
      for (std::int64_t row = from; row < to; row += step) {
        const std::int64_t count = std::min(step, to - row);
        producer_.produce({layout_.first_repeat + index, s, row - s.row, count, s.columns}, memory.data(), scratch);
        for (std::int64_t i = 0; i < count; ++i)
          largest[static_cast<std::size_t>(row + i - begin)] =
              largest_of_row(layout_.matrix.dtype, memory.data() + i * s.columns * element_, s.columns);
      }
    }
    return largest;
  }

 private:
  static constexpr std::int64_t kBytesAtOnce = std::int64_t{128} << 10;

  const WeightLayout& layout_;
  const RowProducer& producer_;
  std::int64_t element_ = static_cast<std::int64_t>(size_of(layout_.matrix.dtype)), bytes_ = 0;
  std::vector<WeightSegment> segments_;  // in place of those of the rank
};

void fill_memory(const WeightLayout& layout, const RowProducer& producer, std::byte* destination, Staging& staging) {
  const auto row_bytes = layout.columns * static_cast<std::int64_t>(size_of(layout.matrix.dtype));
  const std::size_t matrix_bytes = layout.matrix.bytes();
  const bool plain_storage = layout.matrix.plain();
  const std::int64_t tile = rows_per_tile(layout.matrix);
  // Whole tiles, so that no two threads write to one; experts smaller than a chunk are a chunk each.
  const std::int64_t step = std::max<std::int64_t>(kChunkBytes / row_bytes / tile, 1) * tile;
  const std::int64_t per_matrix = ceil_div(layout.rows, step);
  const std::size_t rows_to_pack =
      plain_storage ? 0 : static_cast<std::size_t>(std::min(step, layout.rows) * row_bytes);
  std::optional<WholeRows> whole;
  if (layout.matrix.quantized() && cuts_rows(layout)) whole.emplace(layout, producer);
  const std::size_t whole_bytes = whole ? whole->bytes() : 0;
  parallel_for_throwing(staging.pool(), layout.count * per_matrix, [&](std::int64_t task) {
    const std::int64_t index = task / per_matrix, begin = task % per_matrix * step;
    const std::int64_t rows = std::min(step, layout.rows - begin);
    std::byte* matrix = destination + static_cast<std::size_t>(index) * matrix_bytes;
    // One lease for all needs: threads that hold one and wait for another would wait for each other.
    Staging::Lease lease(staging, producer.scratch_bytes + std::max(rows_to_pack, whole_bytes));
    const auto scratch = lease.bytes().first(producer.scratch_bytes);
    const auto behind = lease.bytes().subspan(producer.scratch_bytes);
    std::vector<float> largest;
    if (whole) largest = whole->find(index, begin, begin + rows, behind, scratch);
    std::byte* const plain = rows_to_pack ? behind.data() : matrix + begin * row_bytes;
    make_rows(layout, producer, index, begin, begin + rows, plain, scratch);
    if (rows_to_pack) pack_rows(layout.matrix, begin, rows, plain, matrix, whole ? largest.data() : nullptr);
  });
}

void fill_store(const WeightLayout& layout, const RowProducer& producer, RowStore& store, Staging& staging) {
  const auto row_bytes = layout.columns * static_cast<std::int64_t>(size_of(layout.matrix.dtype));
  const std::int64_t step = static_cast<std::int64_t>(store.max_bytes()) / row_bytes;
  if (step < 1)
    fail(ErrorCode::unsupported, "loading needs a buffer of ", row_bytes, " bytes, expected at most ",
         store.max_bytes(), remedy("rows this long are not expected in a Qwen3 model; is config.json right?"));
  const std::int64_t per_matrix = ceil_div(layout.rows, step);
  parallel_for_throwing(staging.pool(), layout.count * per_matrix, [&](std::int64_t task) {
    const std::int64_t index = task / per_matrix, begin = task % per_matrix * step;
    const std::int64_t rows = std::min(step, layout.rows - begin);
    Staging::Lease lease(staging, producer.scratch_bytes);
    const std::span<std::byte> into = store.acquire();
    try {
      const std::int64_t made = make_rows(layout, producer, index, begin, begin + rows, into.data(), lease.bytes());
      store.store(index * layout.rows + begin, made, into);
    } catch (...) {
      store.give_back(into);
      throw;
    }
  });
}

}  // namespace

void fill_weight(const WeightLayout& layout, const RowProducer& producer, const WeightPlace& destination,
                 Staging& staging) {
  if (layout.rows == 0 || layout.columns == 0) return;
  CAJAL_CHECK(!destination.rows || !layout.matrix.quantized(), "rows are stored as ", to_string(layout.matrix));
  if (destination.rows) return fill_store(layout, producer, *destination.rows, staging);
  fill_memory(layout, producer, destination.memory, staging);
}

}  // namespace cajal
