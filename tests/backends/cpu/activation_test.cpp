#include "backends/cpu/kernels/activation.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backends/cpu/isa.h"
#include "backends/cpu/kernels/vec_avx2.h"
#include "backends/cpu/kernels/vec_avx512.h"
#include "tensor/dtype.h"

namespace cajal::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// In units of the last place of `want`, which is exact to double.
double ulps(float got, double want) {
  const auto nearest = static_cast<float>(want);
  if (got == nearest) return 0;
  const float next = std::nextafter(std::fabs(nearest), kInf);
  return std::fabs(got - want) / (static_cast<double>(next) - std::fabs(static_cast<double>(nearest)));
}

// Every 9973rd float: all exponents, both signs, infinities and NaNs.
std::vector<float> floats() {
  std::vector<float> xs;
  for (std::uint64_t bits = 0; bits < 1ull << 32; bits += 9973) xs.push_back(std::bit_cast<float>(std::uint32_t(bits)));
  for (float x = -110; x < 100; x += 0.0137f) xs.push_back(x);
  for (float x : {0.0f, -0.0f, kInf, -kInf, 88.72283f, 88.72284f, -87.33655f, -103.97208f, 1e-40f, -1e-40f})
    xs.push_back(x);
  while (xs.size() % 16) xs.push_back(std::numeric_limits<float>::quiet_NaN());
  return xs;
}

struct Results {
  std::vector<float> exp, silu, rounded;
  std::vector<std::uint16_t> bf16;
  explicit Results(std::size_t n) : exp(n), silu(n), rounded(n), bf16(n) {}
};

Results scalar_results(const std::vector<float>& xs) {
  Results r(xs.size());
  for (std::size_t i = 0; i < xs.size(); ++i) {
    r.exp[i] = exp_f32(xs[i]);
    r.silu[i] = silu_f32(xs[i]);
    r.bf16[i] = float_to_bf16(xs[i]);
    r.rounded[i] = bf16_to_float(r.bf16[i]);
  }
  return r;
}

void expect_same(const Results& got, const Results& want, const std::vector<float>& xs) {
  const auto same = [](float a, float b) {
    return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (a != a && b != b);
  };
  for (std::size_t i = 0; i < xs.size(); ++i) {
    ASSERT_TRUE(same(got.exp[i], want.exp[i])) << xs[i];
    ASSERT_TRUE(same(got.silu[i], want.silu[i])) << xs[i];
    ASSERT_EQ(got.bf16[i], want.bf16[i]) << xs[i];
    ASSERT_TRUE(same(got.rounded[i], want.rounded[i])) << xs[i];
  }
}

TEST(Activation, ExpIsWithinOneUlpOfTheExactValue) {
  for (const float x : floats()) {
    if (x != x) {
      EXPECT_TRUE(std::isnan(exp_f32(x)));
    } else {
      ASSERT_LE(ulps(exp_f32(x), std::exp(static_cast<double>(x))), 1.0) << x;
    }
  }
  EXPECT_EQ(exp_f32(-kInf), 0.0f);
  EXPECT_EQ(exp_f32(kInf), kInf);
  EXPECT_EQ(exp_f32(0.0f), 1.0f);
}

TEST(Activation, SiluIsWithinTwoUlpAndHasItsLimits) {
  for (const float x : floats()) {
    if (x != x || std::fabs(x) > 88) continue;
    const double want = static_cast<double>(x) / (1 + std::exp(-static_cast<double>(x)));
    ASSERT_LE(ulps(silu_f32(x), want), 2.5) << x;
  }
  EXPECT_EQ(silu_f32(-kInf), 0.0f);
  EXPECT_EQ(silu_f32(-1000.0f), 0.0f);
  EXPECT_EQ(silu_f32(kInf), kInf);
  EXPECT_EQ(silu_f32(3e38f), 3e38f);
  EXPECT_TRUE(std::isnan(silu_f32(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace cajal::cpu

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX2)
namespace cajal::cpu {
void fill_avx2(const float* x, float* exp, float* silu, float* rounded, std::uint16_t* bf16, std::size_t n) {
  for (std::size_t i = 0; i < n; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    _mm256_storeu_ps(exp + i, avx2::exp_f32(v));
    _mm256_storeu_ps(silu + i, avx2::silu_f32(v));
    _mm256_storeu_ps(rounded + i, avx2::round_to_bf16(v));
    avx2::store_bf16(bf16 + i, v);
  }
}
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

CAJAL_TARGET_REGION_BEGIN(CAJAL_AVX512)
namespace cajal::cpu {
void fill_avx512(const float* x, float* exp, float* silu, float* rounded, std::uint16_t* bf16, std::size_t n) {
  for (std::size_t i = 0; i < n; i += 16) {
    const __m512 v = _mm512_loadu_ps(x + i);
    _mm512_storeu_ps(exp + i, avx512::exp_f32(v));
    _mm512_storeu_ps(silu + i, avx512::silu_f32(v));
    _mm512_storeu_ps(rounded + i, avx512::round_to_bf16(v));
    avx512::store_bf16(bf16 + i, v);
  }
}
}  // namespace cajal::cpu
CAJAL_TARGET_REGION_END

namespace cajal::cpu {
namespace {

TEST(Activation, EveryInstructionSetGivesTheBitsOfTheScalar) {
  const std::vector<float> xs = floats();
  const Results want = scalar_results(xs);
  Results got(xs.size());
  if (detect_isa() & kAvx2) {
    fill_avx2(xs.data(), got.exp.data(), got.silu.data(), got.rounded.data(), got.bf16.data(), xs.size());
    expect_same(got, want, xs);
  }
  if (detect_isa() & kAvx512) {
    fill_avx512(xs.data(), got.exp.data(), got.silu.data(), got.rounded.data(), got.bf16.data(), xs.size());
    expect_same(got, want, xs);
  }
}

}  // namespace
}  // namespace cajal::cpu
