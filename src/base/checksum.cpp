#include "base/checksum.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <vector>

#include "base/checked.h"

namespace cajal {
namespace {

constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio
constexpr std::uint64_t kOther = 0xbf58476d1ce4e5b9u;
constexpr std::size_t kLanes = 8, kBlock = kLanes * sizeof(std::uint64_t);
constexpr std::size_t kPiece = std::size_t{4} << 20;

// One to one in the word and in the lane: two words that differ never give the same. Multiplied twice, since one product
// leaves a change of the highest bit so small that the next word could undo it.
std::uint64_t absorb(std::uint64_t lane, std::uint64_t word) { return std::rotl(lane + word * kOdd, 31) * kOther; }

std::uint64_t mix(std::uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

}  // namespace

std::uint64_t checksum(std::span<const std::byte> bytes) {
  std::array<std::uint64_t, kLanes> lanes;
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = mix(kOdd * (i + 1));
  const auto add_block = [&](const std::byte* block) {
    std::array<std::uint64_t, kLanes> words;
    std::memcpy(words.data(), block, kBlock);
    for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = absorb(lanes[i], words[i]);
  };
  std::size_t at = 0;
  for (; at + kBlock <= bytes.size(); at += kBlock) add_block(bytes.data() + at);
  if (at < bytes.size()) {
    std::array<std::byte, kBlock> rest{};
    std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(), rest.begin());
    add_block(rest.data());
  }
  std::uint64_t sum = mix(bytes.size());  // the zeros of the rest are not the text's
  for (const std::uint64_t lane : lanes) sum = mix(absorb(sum, lane));
  return sum;
}

std::uint64_t checksum_of_pieces(std::span<const std::byte> bytes, ThreadPool& pool) {
  std::vector<std::uint64_t> sums(ceil_div(bytes.size(), kPiece));
  pool.parallel_for(static_cast<std::int64_t>(sums.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      sums[i] = checksum(bytes.subspan(i * kPiece, std::min(kPiece, bytes.size() - i * kPiece)));
  });
  return checksum(std::as_bytes(std::span(sums)));
}

std::string checksum_text(std::uint64_t sum) {
  std::array<char, 16> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), sum, 16).ptr;
  const std::string text(digits.data(), end);
  return std::string(digits.size() - text.size(), '0') + text;
}

bool parse_checksum(std::string_view text, std::uint64_t& into) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into, 16);
  return text.size() == 16 && error == std::errc() && end == text.data() + text.size() && checksum_text(into) == text;
}

}  // namespace cajal
