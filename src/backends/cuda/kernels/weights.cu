#include "backends/cuda/kernels/weights.h"

#include <algorithm>

#include "backends/cuda/kernels/device.cuh"

namespace cajal::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kGroupBytes = 16;  // of a row, what the kernels of bf16 find in one piece

__device__ std::int64_t place(const StoredMatrix& m, std::int64_t n, std::int64_t k) {
  return n / m.tile.rows * m.tile.rows * m.padded_columns + k / m.tile.group * m.tile.rows * m.tile.group +
         n % m.tile.rows * m.tile.group + k % m.tile.group;
}

__device__ std::int64_t first_item() { return blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; }
__device__ std::int64_t next_item() { return gridDim.x * static_cast<std::int64_t>(blockDim.x); }

// Whole groups of 16 bytes. Neighbouring threads take neighbouring rows of a tile, whose groups are neighbours in memory.
template <class T>
__global__ void pack_groups_kernel(StoredMatrix m, const T* plain, std::int64_t first_row, std::int64_t num_rows) {
  constexpr int kGroup = kGroupBytes / sizeof(T);
  const std::int64_t groups = m.columns / kGroup, tiles = (num_rows + m.tile.rows - 1) / m.tile.rows;
  for (std::int64_t i = first_item(); i < tiles * groups * m.tile.rows; i += next_item()) {
    const std::int64_t row = i / m.tile.rows / groups * m.tile.rows + i % m.tile.rows;
    const std::int64_t column = i / m.tile.rows % groups * kGroup;
    if (row >= num_rows) continue;
    *reinterpret_cast<uint4*>(static_cast<T*>(m.data) + place(m, first_row + row, column)) =
        *reinterpret_cast<const uint4*>(plain + row * m.columns + column);
  }
}

template <class T>
__global__ void pack_elements_kernel(StoredMatrix m, const T* plain, std::int64_t first_row, std::int64_t num_rows) {
  for (std::int64_t i = first_item(); i < num_rows * m.columns; i += next_item())
    static_cast<T*>(m.data)[place(m, first_row + i / m.columns, i % m.columns)] = plain[i];
}

template <class T>
__global__ void dummy_kernel(StoredMatrix m, DummyRows rows) {
  for (std::int64_t i = first_item(); i < rows.rows * m.columns; i += next_item()) {
    const std::int64_t n = i / m.columns, k = i % m.columns;
    const std::int64_t at = (rows.source_row + n) * rows.source_columns + rows.source_column + k;
    const std::uint64_t hash = rows.numbers.hash(static_cast<std::uint64_t>(at / kNumbersPerHash));
    const auto bits = static_cast<std::uint16_t>(hash >> (16 * (at % kNumbersPerHash)));
    static_cast<T*>(m.data)[place(m, rows.row + n, k)] = store<T>(rows.numbers.value(bits));
  }
}

unsigned blocks_for(std::int64_t items) {
  constexpr std::int64_t kMost = 132 * 16;
  return static_cast<unsigned>(std::clamp<std::int64_t>((items + kThreads - 1) / kThreads, 1, kMost));
}

}  // namespace

void pack_rows(const StoredMatrix& m, const void* plain, std::int64_t first_row, std::int64_t num_rows,
               cudaStream_t stream) {
  with_element(m.element, [&](auto zero) {
    using T = decltype(zero);
    const auto* from = static_cast<const T*>(plain);
    constexpr int kGroup = kGroupBytes / sizeof(T);
    if (m.tile.group == kGroup && m.columns % kGroup == 0) {
      const unsigned blocks = blocks_for((num_rows + m.tile.rows) * m.columns / kGroup);
      pack_groups_kernel<<<blocks, kThreads, 0, stream>>>(m, from, first_row, num_rows);
    } else {
      pack_elements_kernel<<<blocks_for(num_rows * m.columns), kThreads, 0, stream>>>(m, from, first_row, num_rows);
    }
  });
}

void make_dummy_rows(const StoredMatrix& m, const DummyRows& rows, cudaStream_t stream) {
  with_element(m.element, [&](auto zero) {
    dummy_kernel<decltype(zero)><<<blocks_for(rows.rows * m.columns), kThreads, 0, stream>>>(m, rows);
  });
}

}  // namespace cajal::cuda
