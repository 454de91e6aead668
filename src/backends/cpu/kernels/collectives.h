#pragma once
// What ranks do together, on rows of this rank. Every rank calls them with the same arguments but for its memory; they throw
// what the communicator throws.
#include "backends/cpu/kernels/kernel.h"

namespace cajal {
class Communicator;
}

namespace cajal::cpu {

// ops::AllReduce.
struct AllReduceArgs {
  const std::byte* x;     // [rows, columns] of `from`
  const std::byte* bias;  // [columns] of `to`, or null
  std::byte* y;           // [rows, columns] of `to`
  float* sums;            // [rows, columns]; y itself where that is f32
  std::int64_t rows, columns;
  DType from, to;
  Communicator* group;
};
void all_reduce(const AllReduceArgs& args, ThreadPool& pool);

// The ops that move columns: [rows, columns] of x on every rank, `columns` a multiple of the ranks where they are cut.
struct MoveColumnsArgs {
  const std::byte* x;
  std::byte* y;
  std::byte* scratch;  // move_columns_scratch
  std::int64_t rows, columns;
  DType dtype;
  Communicator* group;
};
void all_gather(const MoveColumnsArgs& args, ThreadPool& pool);      // y[rows, ranks * columns]
void reduce_scatter(const MoveColumnsArgs& args, ThreadPool& pool);  // y[rows, columns / ranks]
void all_to_all(const MoveColumnsArgs& args, ThreadPool& pool);      // y[rows, columns]

// Bytes of scratch memory for at most so many rows.
std::size_t all_gather_scratch(std::int64_t rows, std::int64_t columns, int ranks, DType dtype);
std::size_t reduce_scatter_scratch(std::int64_t rows, std::int64_t columns);
std::size_t all_to_all_scratch(std::int64_t rows, std::int64_t columns, DType dtype);

}  // namespace cajal::cpu
