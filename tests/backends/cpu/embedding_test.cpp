#include <gtest/gtest.h>

#include "backends/cpu/kernels/linear.h"
#include "backends/cpu/matrix_testing.h"
#include "base/thread_pool.h"

namespace cajal::cpu {
namespace {

TEST(Embedding, EveryKernelCopiesRowsOutOfEveryStorage) {
  ThreadPool pool(2);
  std::mt19937 random(1);
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const Storage& storage :
         {Storage{Plain{}}, Storage{Packed{16, 2}}, Storage{Packed{16, 1}}, Storage{Packed{3, 4}}, Storage{Lossless{}}})
      for (const std::int64_t hidden : {1, 2, 33, 64})
        for (const std::int64_t vocab : {1, 16, 37}) {
          if (dtype == DType::f32 && storage == Storage{Lossless{}}) continue;
          const std::int64_t rows = 70;
          const Bytes plain = random_tensor(dtype, vocab * hidden, Values::special, random);
          const Bytes table = packed_tensor({dtype, {vocab, hidden}, storage}, plain);
          std::vector<std::int32_t> ids;
          Bytes want;
          const std::size_t row_bytes = static_cast<std::size_t>(hidden) * size_of(dtype);
          for (std::int64_t i = 0; i < rows; ++i) {
            ids.push_back(static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(vocab)));
            const auto row = plain.begin() + ids.back() * static_cast<std::ptrdiff_t>(row_bytes);
            want.insert(want.end(), row, row + static_cast<std::ptrdiff_t>(row_bytes));
          }
          for (const EmbeddingKernel& kernel : embedding_kernels()) {
            if (!kernel.accepts({dtype, storage})) continue;
            Bytes y(want.size());
            kernel.run({.table = table.data(),
                        .ids = ids.data(),
                        .y = y.data(),
                        .rows = rows,
                        .vocab_size = vocab,
                        .hidden_size = hidden,
                        .dtype = dtype,
                        .packed = tile_of(storage)},
                       pool);
            ASSERT_EQ(y, want) << kernel.name << " " << hidden;
          }
        }
}

}  // namespace
}  // namespace cajal::cpu
