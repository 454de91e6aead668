#pragma once
#include <cstddef>
#include <cstdint>

namespace cajal::cpu {

// A block of a product ends in a few bytes for each of its rows, which lie far apart, in lines that no cache holds. They are
// fetched when it begins: stores that wait for them would hold up the blocks behind it.
inline void fetch_output(std::byte* first, std::int64_t stride, int rows, std::int64_t bytes) {
  constexpr int kToWrite = 1;
  for (int r = 0; r < rows; ++r)
    for (std::int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(first + r * stride + at, kToWrite);
}

}  // namespace cajal::cpu
