#include "tensor/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace cajal {
namespace {

using Bytes = std::vector<std::byte>;

Bytes random_bytes(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(n);
  for (auto& b : bytes) b = static_cast<std::byte>(random() | 1);  // never zero, so that padding shows
  return bytes;
}

std::size_t plain_bytes(const TensorType& t) { return static_cast<std::size_t>(t.shape.elements()) * size_of(t.dtype); }

std::int64_t num_rows(const TensorType& t) { return t.shape.elements() / t.shape[-1]; }

std::vector<TensorType> types() {
  std::vector<TensorType> all;
  for (const Packed packed : {Packed{16, 2}, Packed{16, 1}, Packed{8, 4}, Packed{1, 1}, Packed{3, 5}})
    for (const DType dtype : {DType::bf16, DType::f32, DType::i8})
      for (const std::int64_t n : {1, 15, 16, 17, 48, 173})
        for (const std::int64_t k : {1, 2, 3, 8, 31, 64, 100}) {
          all.push_back({dtype, {n, k}, packed});
          if (n < 20) all.push_back({dtype, {3, n, k}, packed});
        }
  return all;
}

Bytes packed(const TensorType& t, const Bytes& rows) {
  Bytes stored(t.bytes(), std::byte{0xee});
  pack_rows(t, 0, num_rows(t), rows.data(), stored.data());
  return stored;
}

TEST(Pack, UnpackingIsTheInverse) {
  for (const TensorType& t : types()) {
    const Bytes rows = random_bytes(plain_bytes(t), 1);
    Bytes back(rows.size());
    unpack_rows(t, 0, num_rows(t), packed(t, rows).data(), back.data());
    ASSERT_EQ(back, rows) << to_string(t);
  }
}

TEST(Pack, PutsElementsWherePackedIndexSaysAndZerosElsewhere) {
  for (const TensorType& t : types()) {
    const Packed p = std::get<Packed>(t.storage);
    const Bytes rows = random_bytes(plain_bytes(t), 2);
    const std::int64_t n = t.shape[-2], k = t.shape[-1], matrices = num_rows(t) / n;
    const std::int64_t padded_k = (k + p.group - 1) / p.group * p.group, padded_n = (n + p.rows - 1) / p.rows * p.rows;
    Bytes want(t.bytes());
    for (std::int64_t m = 0; m < matrices; ++m)
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < k; ++j)
          std::memcpy(
              want.data() + static_cast<std::size_t>(m * padded_n * padded_k + packed_index(p, padded_k, i, j)) *
                                size_of(t.dtype),
              rows.data() + static_cast<std::size_t>((m * n + i) * k + j) * size_of(t.dtype), size_of(t.dtype));
    ASSERT_EQ(packed(t, rows), want) << to_string(t);
  }
}

TEST(Pack, InPiecesOfAnySizeIsTheSame) {
  for (const TensorType& t : types()) {
    const Bytes rows = random_bytes(plain_bytes(t), 3);
    const std::size_t row_bytes = static_cast<std::size_t>(t.shape[-1]) * size_of(t.dtype);
    for (const std::int64_t piece : {1, 5, 16, 40}) {
      Bytes stored(t.bytes(), std::byte{0xee}), back(rows.size());
      for (std::int64_t row = 0; row < num_rows(t); row += piece) {
        const std::int64_t count = std::min(piece, num_rows(t) - row);
        pack_rows(t, row, count, rows.data() + static_cast<std::size_t>(row) * row_bytes, stored.data());
      }
      ASSERT_EQ(stored, packed(t, rows)) << to_string(t) << " by " << piece;
      for (std::int64_t row = 0; row < num_rows(t); row += piece)
        unpack_rows(t, row, std::min(piece, num_rows(t) - row), stored.data(),
                    back.data() + static_cast<std::size_t>(row) * row_bytes);
      ASSERT_EQ(back, rows) << to_string(t) << " by " << piece;
    }
  }
}

TEST(Pack, PlainStorageIsACopy) {
  const TensorType t{DType::f16, {5, 7}};
  const Bytes rows = random_bytes(plain_bytes(t), 4);
  EXPECT_EQ(packed(t, rows), rows);
  EXPECT_EQ(rows_per_tile(t), 1);
  EXPECT_EQ(rows_per_tile({DType::bf16, {5, 7}, Packed{16, 2}}), 16);
}

TEST(Pack, RefusesQuantisedStorage) {
  const TensorType t{DType::i8, {32, 32}, Quantized{}};
  Bytes rows(32 * 32), stored(t.bytes());
  try {
    pack_rows(t, 0, 32, rows.data(), stored.data());
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::unsupported);
  }
}

}  // namespace
}  // namespace cajal
