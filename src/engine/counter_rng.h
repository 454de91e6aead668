#pragma once
// Random numbers without state: a number is a function of (seed, sequence, position, index), so that what a request draws
// does not depend on what else runs, in which order, or on which device.
#include <array>
#include <cstdint>

#include "tensor/sampling_math.h"

namespace cajal {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// The stream of one draw: token `position` of sequence `sequence` of a request with `seed`.
class CounterRng {
 public:
  CounterRng(std::uint64_t seed, std::uint32_t sequence, std::uint64_t position) : key_{seed, position, sequence} {}

  std::uint32_t bits(std::uint32_t index);                                 // 32 random bits
  double uniform(std::uint32_t index) { return uniform_of(bits(index)); }  // in (0, 1)
  // A sample of the standard Gumbel distribution: the largest of log p_i + gumbel(i) falls on i with probability p_i.
  double gumbel(std::uint32_t index) { return gumbel_of(bits(index)); }
  static constexpr double kMaxGumbel = kMostGumbel;

 private:
  DrawKey key_;
  std::uint32_t cached_block_ = ~std::uint32_t{0};
  PhiloxBlock cached_{};
};

// A seed for a request that brings none, from the system's entropy.
std::uint64_t draw_seed();

}  // namespace cajal
