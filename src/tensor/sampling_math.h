#pragma once
// The numbers that choosing a token is made of, computed alike wherever the logits are: sums of probabilities that do not
// depend on the order, because they are integers, and random numbers that are functions of what they are for.
#include <cstdint>
#include <cstring>

#include "tensor/host_device.h"

namespace cajal {

// --- exponentials and logarithms: additions and multiplications alone, in an order that is written here

constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2High = 0x1.62e42fefa0000p-1, kLn2Low = 0x1.cf79abc9e3b3ap-40;

CAJAL_HOST_DEVICE inline double double_of(std::uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
CAJAL_HOST_DEVICE inline std::uint64_t bits_of(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

constexpr int kWeightBits = 45;         // a weight of 1 is 2^45, so that 2^18 of them fit
constexpr double kLeastExponent = -32;  // e to this is less than half of the smallest weight
constexpr std::int64_t kMostWeights = std::int64_t{1} << 18;

// round(2^kWeightBits e^x) for x <= 0, to within 2^-40 of it; 0 for NaN.
CAJAL_HOST_DEVICE inline std::uint64_t exp_weight(double x) {
  if (!(x > kLeastExponent)) return 0;
  constexpr double kShift = 0x1.8p52;  // adding it leaves a whole number in the low bits
  const double shifted = x * kLog2E + kShift, k = shifted - kShift;
  const double r = (x - k * kLn2High) - k * kLn2Low;  // within ln 2 / 2 of 0
  double p = 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1;
  p = p * r + 1;
  const std::uint64_t exponent = (bits_of(shifted) & 0x7ff) + 1023 + kWeightBits;  // k is -47..0 and its bits wrap
  const double scale = double_of((exponent & 0x7ff) << 52);
  const double rounded = p * scale + 0.5;  // which truncating makes a whole number, without a call
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(rounded));
}

// The natural logarithm of a normal number above 0, to within a few units of the last place.
CAJAL_HOST_DEVICE inline double natural_log(double x) {
  const std::uint64_t bits = bits_of(x);
  double e = static_cast<double>(static_cast<std::int64_t>(bits >> 52) - 1023);
  double m = double_of((bits & 0xfffffffffffffu) | 0x3ff0000000000000u);
  if (m > 1.4142135623730951) m *= 0.5, e += 1;
  // log m = 2 artanh s
  const double s = (m - 1) / (m + 1), z = s * s;
  double p = 1.0 / 21;
  p = p * z + 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  const double twice = 2 * s;
  return e * kLn2High + (twice + (twice * (z * p) + e * kLn2Low));
}

// --- random numbers

struct PhiloxBlock {
  std::uint32_t words[4];
};

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
CAJAL_HOST_DEVICE inline PhiloxBlock philox_block(PhiloxBlock c, std::uint32_t key0, std::uint32_t key1) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = kMultiplier0 * c.words[0], p1 = kMultiplier1 * c.words[2];
    c = {{static_cast<std::uint32_t>(p1 >> 32) ^ c.words[1] ^ key0, static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ c.words[3] ^ key1, static_cast<std::uint32_t>(p0)}};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return c;
}

// Which numbers a draw takes: those of token `position` of sequence `sequence` of a request with `seed`.
struct DrawKey {
  std::uint64_t seed = 0, position = 0;
  std::uint32_t sequence = 0;

  // Those of tokens 4 * block .. 4 * block + 3.
  CAJAL_HOST_DEVICE PhiloxBlock bits(std::uint32_t block) const {
    return philox_block(
        {{block, static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), sequence}},
        static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  }
};

// In (0, 1), and the sample of the standard Gumbel distribution that it is.
CAJAL_HOST_DEVICE inline double uniform_of(std::uint32_t bits) { return (static_cast<double>(bits) + 0.5) * 0x1p-32; }
CAJAL_HOST_DEVICE inline double gumbel_of(std::uint32_t bits) { return -natural_log(-natural_log(uniform_of(bits))); }
constexpr double kMostGumbel = 22.9;  // above every such sample

// --- nucleus

// Whether top-p keeps a token behind likelier ones that weigh `before` together: while they do not make up p of `total`.
CAJAL_HOST_DEVICE inline bool top_p_keeps(std::uint64_t before, double p, std::uint64_t total) {
  return static_cast<double>(before) < p * static_cast<double>(total);
}

}  // namespace cajal
