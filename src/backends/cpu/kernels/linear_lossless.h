#pragma once
// Linear over lossless weights: what linear.cpp lists. The class and the bits of bf16 weights that are merely packed.
#include <array>
#include <atomic>

#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/kernels/linear_blocks.h"

namespace cajal::cpu {

bool is_lossless(const LinearShape& shape);

// Many rows: a few tiles are unpacked, and stay in a cache while all rows of a chunk are multiplied with them.
void run_lossless_tiles(const BlockTable& table, const LinearArgs& args, ThreadPool& pool);
std::size_t lossless_tiles_scratch(const LinearShape& shape, int threads);

// Memory for the tiles that one thread works on, with `in_features` columns.
std::int64_t unpacked_bytes(std::int64_t in_features);
// multiply_tiles over lossless weights that are unpacked first: the same bits, and faster from a dozen rows on.
void multiply_unpacked(const BlockTable& table, const MatrixProduct& product, const TileRange& range,
                       std::byte* memory);

// Shares out as many pieces of memory as there are threads among pieces of work, whichever thread has which.
class ScratchSlots {
 public:
  int take();
  void give_back(int slot);

 private:
  std::array<std::atomic<std::uint64_t>, 16> taken_{};  // bits
};

// All of the matrix unpacked, for the reference.
std::size_t lossless_plain_bytes(const LinearShape& shape, int threads);
LinearArgs lossless_plain(const LinearArgs& args);

MatrixProduct linear_product(const LinearArgs& args);

}  // namespace cajal::cpu
