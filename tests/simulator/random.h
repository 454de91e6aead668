#pragma once
// Random numbers that are the same on every machine and with every standard library.
#include <algorithm>
#include <bit>
#include <cstdint>

namespace cajal::simulator {

// A bijection whose output bits all depend on all input bits (the finaliser of SplitMix64).
constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(mix(seed)) {}

  std::uint64_t bits() { return mix(state_++); }
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(n)); }
  std::int64_t between(std::int64_t least, std::int64_t most) { return least + below(most - least + 1); }
  bool chance(std::int64_t percent) { return below(100) < percent; }
  // Mostly small and now and then up to `most`: every power of two is as likely as the next.
  std::int64_t heavy_tailed(std::int64_t least, std::int64_t most) {
    const auto range = static_cast<std::uint64_t>(most - least + 1);
    const auto octave = static_cast<unsigned>(below(std::bit_width(range)));
    return least + below(std::min<std::int64_t>(std::int64_t{2} << octave, most - least + 1));
  }
  template <class T>
  T pick(std::initializer_list<T> from) {
    return *(from.begin() + below(static_cast<std::int64_t>(from.size())));
  }

 private:
  std::uint64_t state_;
};

}  // namespace cajal::simulator
