#include "engine/counter_rng.h"

#include <random>

namespace cajal {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  const PhiloxBlock block = philox_block({{c[0], c[1], c[2], c[3]}}, k[0], k[1]);
  return std::to_array(block.words);
}

std::uint32_t CounterRng::bits(std::uint32_t index) {
  const std::uint32_t block = index / 4;
  if (block != cached_block_) {
    cached_ = key_.bits(block);
    cached_block_ = block;
  }
  return cached_.words[index % 4];
}

std::uint64_t draw_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32 | device()) >> 11;  // 53 bits: JSON numbers carry it exactly
}

}  // namespace cajal
