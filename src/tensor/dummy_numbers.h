#pragma once
// The numbers of weights that nobody trained: hashes of where an element would lie in a checkpoint. Devices that make their
// own include this too, so all of them make the same.
#include <cstdint>

#include "tensor/host_device.h"

namespace cajal {

constexpr std::uint64_t kHashStep = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio: multiples of it spread evenly
constexpr int kNumbersPerHash = 4;                        // 16 bits each, the lowest first

// SplitMix64's finaliser: every input bit reaches every output bit.
CAJAL_HOST_DEVICE inline std::uint64_t mix_bits(std::uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

// Those of one tensor of a checkpoint.
struct DummyNumbers {
  std::uint64_t key = 0;
  float mean = 0, step = 0;

  // Elements 4i .. 4i + 3 come from one hash.
  CAJAL_HOST_DEVICE std::uint64_t hash(std::uint64_t i) const { return mix_bits(key + i * kHashStep); }
  CAJAL_HOST_DEVICE float value(std::uint16_t bits) const {
    return mean + (static_cast<float>(bits) - 32767.5f) * step;
  }
};

// Rows of a parameter that are such numbers: `rows` rows of matrix `index`, from its row `row` on, are those of a tensor
// with `source_columns` columns from (source_row, source_column) on.
struct DummyRows {
  DummyNumbers numbers;
  std::int64_t index = 0, row = 0, rows = 0;
  std::int64_t source_row = 0, source_column = 0, source_columns = 0;
};

}  // namespace cajal
