#pragma once
// Sums in parts are added as a balanced tree while they are made, one part after the other.
#include <bit>
#include <cstdint>

namespace cajal::cpu {

// When part `part` is done it completes as many sums of two as its number ends in ones: those of the levels from `level` on,
// `siblings` of them, which are added to it, the last one's first. Level `level` gets the sum, and waits for its sibling.
struct PartOfSum {
  int siblings, level;
};
constexpr PartOfSum part_of_sum(std::int32_t part) {
  const int siblings = std::countr_one(static_cast<unsigned>(part));
  return {siblings, std::popcount(static_cast<unsigned>(part)) - siblings};
}

}  // namespace cajal::cpu
