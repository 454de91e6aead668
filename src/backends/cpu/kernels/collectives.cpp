#include "backends/cpu/kernels/collectives.h"

#include <cstring>

#include "backends/cpu/kernels/elementwise_scalar.h"
#include "backends/cpu/kernels/linear_blocks.h"
#include "base/checked.h"
#include "base/thread_pool.h"
#include "distributed/communicator.h"

namespace cajal::cpu {
namespace {

void widen(const std::byte* from, DType dtype, float* to, std::int64_t n, ThreadPool& pool) {
  with_activation(dtype, [&](auto t) {
    using T = decltype(t);
    pool.parallel_for(n, row_grain(1), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) to[i] = T::load(as<T>(from)[i]);
    });
  });
}

// The bias of each row, and the only rounding.
void round_rows(const float* sums, const std::byte* bias, const AllReduceArgs& a, ThreadPool& pool) {
  with_activation(a.to, [&](auto t) {
    using T = decltype(t);
    pool.parallel_for(a.rows, row_grain(a.columns), [&](std::int64_t begin, std::int64_t end) {
      const FlushDenormals flush(a.to == DType::bf16);
      for (std::int64_t row = begin; row < end; ++row) {
        const float* from = sums + row * a.columns;
        auto* to = as<T>(a.y) + row * a.columns;
        if (bias)
          for (std::int64_t i = 0; i < a.columns; ++i) to[i] = T::store(from[i] + T::load(as<T>(bias)[i]));
        else
          for (std::int64_t i = 0; i < a.columns; ++i) to[i] = T::store(from[i]);
      }
    });
  });
}

// Pieces of rows: of each of `rows` rows `bytes`, from one stride to another.
struct Pieces {
  std::int64_t rows, bytes, from_stride, to_stride;
};
void copy_pieces(const std::byte* from, std::byte* to, const Pieces& p) {
  for (std::int64_t row = 0; row < p.rows; ++row)
    std::memcpy(to + row * p.to_stride, from + row * p.from_stride, static_cast<std::size_t>(p.bytes));
}

std::int64_t bytes_of(DType dtype) { return static_cast<std::int64_t>(size_of(dtype)); }
std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

void all_reduce(const AllReduceArgs& a, ThreadPool& pool) {
  // As the matrix kernels of this type add their parts.
  const FlushDenormals flush(a.to == DType::bf16);
  const std::int64_t n = a.rows * a.columns;
  if (a.from != DType::f32)
    widen(a.x, a.from, a.sums, n, pool);
  else
    std::memcpy(a.sums, a.x, size(n) * sizeof(float));
  a.group->all_reduce({a.sums, size(n)});
  if (a.to != DType::f32 || a.bias) round_rows(a.sums, a.bias, a, pool);
}

void all_gather(const MoveColumnsArgs& a, ThreadPool&) {
  const std::int64_t piece = a.columns * bytes_of(a.dtype), ranks = a.group->size();
  const std::int64_t mine = a.rows * piece;
  if (a.rows == 1) {
    a.group->all_gather({a.x, size(mine)}, {a.y, size(mine * ranks)});
    return;
  }
  a.group->all_gather({a.x, size(mine)}, {a.scratch, size(mine * ranks)});
  for (std::int64_t r = 0; r < ranks; ++r)
    copy_pieces(a.scratch + r * mine, a.y + r * piece, {a.rows, piece, piece, piece * ranks});
}

void reduce_scatter(const MoveColumnsArgs& a, ThreadPool& pool) {
  const FlushDenormals flush(a.dtype == DType::bf16);
  const std::int64_t ranks = a.group->size(), columns = a.columns / ranks, n = a.rows * columns;
  auto* const pieces = reinterpret_cast<float*>(a.scratch);
  float* const wide = pieces + n * ranks;
  widen(a.x, a.dtype, wide, a.rows * a.columns, pool);
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  for (std::int64_t r = 0; r < ranks; ++r)
    copy_pieces(reinterpret_cast<const std::byte*>(wide + r * columns), reinterpret_cast<std::byte*>(pieces + r * n),
                {a.rows, columns * kFloat, a.columns * kFloat, columns * kFloat});
  a.group->reduce_scatter({pieces, size(n * ranks)}, {wide, size(n)});
  const AllReduceArgs round{.x = nullptr,
                            .bias = nullptr,
                            .y = a.y,
                            .sums = wide,
                            .rows = a.rows,
                            .columns = columns,
                            .from = a.dtype,
                            .to = a.dtype,
                            .group = a.group};
  round_rows(wide, nullptr, round, pool);
}

void all_to_all(const MoveColumnsArgs& a, ThreadPool&) {
  const std::int64_t ranks = a.group->size(), whole = a.columns * bytes_of(a.dtype), piece = whole / ranks;
  const std::int64_t all = a.rows * whole;
  std::byte *const sent = a.scratch, *const received = a.scratch + all;
  for (std::int64_t r = 0; r < ranks; ++r)
    copy_pieces(a.x + r * piece, sent + r * a.rows * piece, {a.rows, piece, whole, piece});
  a.group->all_to_all({sent, size(all)}, {received, size(all)});
  for (std::int64_t r = 0; r < ranks; ++r)
    copy_pieces(received + r * a.rows * piece, a.y + r * piece, {a.rows, piece, piece, whole});
}

std::size_t all_gather_scratch(std::int64_t rows, std::int64_t columns, int ranks, DType dtype) {
  return rows == 1 ? 0 : size(checked_mul(rows * columns, std::int64_t{ranks}, "gathered rows")) * size_of(dtype);
}
std::size_t reduce_scatter_scratch(std::int64_t rows, std::int64_t columns) {
  return size(2 * rows * columns) * sizeof(float);
}
std::size_t all_to_all_scratch(std::int64_t rows, std::int64_t columns, DType dtype) {
  return size(2 * rows * columns) * size_of(dtype);
}

}  // namespace cajal::cpu
