#pragma once
// exp and silu, defined by one sequence of f32 operations. vec_avx2.h and vec_avx512.h repeat the same sequence on
// vectors, so every instruction set gives the same bits: change all three together.
#include <bit>
#include <cmath>
#include <cstdint>

namespace cajal::cpu {

// exp(x) = 2^n * exp(r) with n = round(x / ln 2), r = x - n ln 2. The polynomial is the minimax one of degree 6 for
// |r| <= ln(2) / 2 with 1 + r kept exact (relative error 2^-28).
namespace exp_constants {
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;  // n * kLn2High is exact
constexpr float kC2 = 0x1.fffffcp-2f, kC3 = 0x1.555492p-3f, kC4 = 0x1.5558f2p-5f, kC5 = 0x1.1239e2p-7f,
                kC6 = 0x1.6a2434p-10f;
constexpr float kLowest = -104.0f, kHighest = 89.0f;  // beyond, the result is 0 or infinity
constexpr float kRound = 0x1.8p+23f;                  // adding it rounds to an integer, which is then in the low bits
}  // namespace exp_constants

// Within 1 ulp; denormal results are rounded once. exp(-inf) = 0, exp(inf) = inf, a NaN stays one.
inline float exp_f32(float x) {
  using namespace exp_constants;
  x = x > kLowest || x != x ? x : kLowest;
  x = x < kHighest || x != x ? x : kHighest;
  const float shifted = std::fma(x, kLog2E, kRound);
  const float n = shifted - kRound;
  const float r = std::fma(n, -kLn2Low, std::fma(n, -kLn2High, x));
  float p = std::fma(kC6, r, kC5);
  p = std::fma(p, r, kC4);
  p = std::fma(p, r, kC3);
  p = std::fma(p, r, kC2);
  p = std::fma(p, r * r, r) + 1.0f;
  // 2^n in two factors, because n reaches from -150 to 128. Of a NaN, n is anything; the NaN wins.
  const std::int32_t bits = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRound);
  const std::int32_t half = bits >> 1;
  const auto power = [](std::int32_t exponent) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
  };
  return p * power(half) * power(bits - half);
}

// x / (1 + exp(-x)), as PyTorch computes it: -0 where exp overflows (x < -88.7), including -inf; a NaN stays one.
inline float silu_f32(float x) {
  constexpr float kMostNegative = -0x1.fffffep+127f;  // finite, so that -inf does not become -inf / inf
  x = x > kMostNegative || x != x ? x : kMostNegative;
  return x / (1.0f + exp_f32(-x));
}

// 1 / (1 + exp(-x)): 0 where exp overflows; a NaN stays one.
inline float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

}  // namespace cajal::cpu
