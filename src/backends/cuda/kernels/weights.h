#pragma once
// Bringing weights into the storage that the other kernels read. Padding is left as it is.
#include <cuda_runtime_api.h>

#include <cstdint>

#include "backends/cuda/kernels/elementwise.h"
#include "tensor/dummy_numbers.h"

namespace cajal::cuda {

// Of one matrix: where it lies, and how wide it is with its padding.
struct StoredMatrix {
  void* data;
  std::int64_t columns, padded_columns;
  Tile tile;
  Element element;
};

// Rows [first_row, first_row + num_rows) of the matrix, from plain ones.
void pack_rows(const StoredMatrix& matrix, const void* plain, std::int64_t first_row, std::int64_t num_rows,
               cudaStream_t stream);
// Rows of the matrix, from their recipe; the recipe's `index` is not looked at.
void make_dummy_rows(const StoredMatrix& matrix, const DummyRows& rows, cudaStream_t stream);

}  // namespace cajal::cuda
