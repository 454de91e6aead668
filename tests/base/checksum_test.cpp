#include "base/checksum.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace cajal {
namespace {

std::string some_bytes(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 131 + i / 256);
  return bytes;
}

TEST(Checksum, ChangesWithEveryBit) {
  for (const std::size_t size : {1u, 8u, 63u, 64u, 65u, 200u}) {
    std::string bytes = some_bytes(size);
    std::set<std::uint64_t> sums{checksum(bytes)};
    for (std::size_t bit = 0; bit < size * 8; ++bit) {
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
      sums.insert(checksum(bytes));
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    }
    EXPECT_EQ(sums.size(), size * 8 + 1) << size;
  }
}

TEST(Checksum, KnowsLengthAndOrder) {
  EXPECT_NE(checksum(std::string()), checksum(std::string(1, '\0')));
  EXPECT_NE(checksum(std::string(64, '\0')), checksum(std::string(65, '\0')));
  const std::string a = some_bytes(128);
  EXPECT_NE(checksum(a), checksum(a.substr(64) + a.substr(0, 64)));
  EXPECT_NE(checksum(a), checksum(a.substr(8, 8) + a.substr(0, 8) + a.substr(16)));
}

TEST(Checksum, OfPiecesDoesNotDependOnThreads) {
  ThreadPool one(1), three(3);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{100}, (std::size_t{4} << 20), (std::size_t{9} << 20) + 5}) {
    std::string bytes = some_bytes(size);
    const std::uint64_t sum = checksum_of_pieces(std::as_bytes(std::span(bytes)), one);
    EXPECT_EQ(checksum_of_pieces(std::as_bytes(std::span(bytes)), three), sum) << size;
    if (size == 0) continue;
    bytes.back() = static_cast<char>(bytes.back() ^ 16);
    EXPECT_NE(checksum_of_pieces(std::as_bytes(std::span(bytes)), three), sum) << size;
  }
}

TEST(Checksum, IsWrittenAndReadAsSixteenDigits) {
  for (const std::uint64_t sum : {std::uint64_t{0}, std::uint64_t{0xabc}, ~std::uint64_t{0}}) {
    std::uint64_t read = 1;
    EXPECT_TRUE(parse_checksum(checksum_text(sum), read));
    EXPECT_EQ(read, sum);
  }
  std::uint64_t any = 0;
  for (const char* wrong : {"", "abc", "000000000000000g", "ABCDEF0123456789", "00000000000000000"})
    EXPECT_FALSE(parse_checksum(wrong, any)) << wrong;
}

}  // namespace
}  // namespace cajal
