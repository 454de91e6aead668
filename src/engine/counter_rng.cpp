#include "engine/counter_rng.h"

#include <cmath>
#include <random>

namespace cajal {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = kMultiplier0 * c[0], p1 = kMultiplier1 * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(p0)};
    k[0] += kWeyl0;
    k[1] += kWeyl1;
  }
  return c;
}

std::uint32_t CounterRng::bits(std::uint32_t index) {
  const std::uint32_t block = index / 4;
  if (block != cached_block_) {
    cached_ = philox4x32(
        {block, static_cast<std::uint32_t>(position_), static_cast<std::uint32_t>(position_ >> 32), sequence_}, key_);
    cached_block_ = block;
  }
  return cached_[index % 4];
}

double CounterRng::gumbel(std::uint32_t index) { return -std::log(-std::log(uniform(index))); }

std::uint64_t draw_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32 | device()) >> 11;  // 53 bits: JSON numbers carry it exactly
}

}  // namespace cajal
