#include "tensor/pytorch_pow.h"

#include <cmath>

namespace cajal {
namespace {

// The unevaluated sum of two f32, the second being what rounding cut off the first.
struct Pair {
  float hi, lo;
};

// The sum of two numbers and its exact rounding error, whichever is larger.
Pair exact_sum(float a, float b) {
  const float sum = a + b, b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}
Pair exact_sum(Pair a, float b) {
  const Pair sum = exact_sum(a.hi, b);
  return {sum.hi, sum.lo + a.lo};
}
Pair exact_sum(Pair a, Pair b) {
  const Pair sum = exact_sum(a.hi, b.hi);
  return {sum.hi, sum.lo + (a.lo + b.lo)};
}
// The same with fewer operations, for |a| >= |b|.
Pair sum(Pair a, Pair b) {
  const float hi = a.hi + b.hi;
  return {hi, (((a.hi - hi) + b.hi) + a.lo) + b.lo};
}
Pair product(Pair a, Pair b) {
  const float hi = a.hi * b.hi;
  return {hi, std::fma(a.hi, b.lo, std::fma(a.lo, b.hi, std::fma(a.hi, b.hi, -hi)))};
}
Pair product(Pair a, float b) {
  const float hi = a.hi * b;
  return {hi, std::fma(a.lo, b, std::fma(a.hi, b, -hi))};
}
Pair square(Pair a) {
  const float hi = a.hi * a.hi;
  return {hi, std::fma(a.hi + a.hi, a.lo, std::fma(a.hi, a.hi, -hi))};
}
Pair quotient(Pair a, Pair b) {
  const float inverse = 1.0f / b.hi;
  const float hi = a.hi * inverse;
  const float a_error = std::fma(inverse, a.hi, -hi);
  const float b_error = std::fma(-b.lo, inverse, std::fma(-b.hi, inverse, 1.0f));
  return {hi, std::fma(hi, b_error, std::fma(a.lo, inverse, a_error))};
}
// c0 x^n + c1 x^(n-1) + …
template <std::size_t N>
float polynomial(float x, const float (&coefficients)[N]) {
  float result = coefficients[0];
  for (std::size_t i = 1; i < N; ++i) result = std::fma(result, x, coefficients[i]);
  return result;
}

Pair log_pair(float x) {
  int exponent = 0;
  std::frexp(x * (1.0f / 0.75f), &exponent);
  --exponent;
  const float mantissa = std::ldexp(x, -exponent);  // 0.75 to 1.5
  // 2 artanh((m - 1) / (m + 1))
  const Pair t = quotient(exact_sum(-1.0f, mantissa), exact_sum(1.0f, mantissa)), t2 = square(t);
  const float tail =
      polynomial(t2.hi, {0.240320354700088500976562f, 0.285112679004669189453125f, 0.400007992982864379882812f});
  constexpr Pair kTwoThirds{0.66666662693023681640625f, 3.69183861259614332084311e-09f};
  constexpr Pair kLn2{0.69314718246459960938f, -1.904654323148236017e-09f};
  const Pair leading = sum(product(kLn2, static_cast<float>(exponent)), {t.hi * 2, t.lo * 2});
  return sum(leading, product(product(t2, t), exact_sum(product(t2, tail), kTwoThirds)));
}

float exp_pair(Pair x) {
  const float q = std::rint((x.hi + x.lo) * 1.442695040888963407f);
  Pair r = exact_sum(exact_sum(x, q * -0.693145751953125f), q * -1.428606765330187045e-06f);
  const float normal = r.hi + r.lo;
  r = {normal, (r.hi - normal) + r.lo};
  const float tail =
      polynomial(r.hi, {0.00136324646882712841033936f, 0.00836596917361021041870117f, 0.0416710823774337768554688f,
                        0.166665524244308471679688f, 0.499999850988388061523438f});
  const Pair result = sum({1.0f, 0.0f}, sum(r, product(square(r), tail)));
  return std::ldexp(result.hi + result.lo, static_cast<int>(q));
}

// PyTorch's vector routine is powf of SLEEF with an error of at most 1 ulp: exp(y log x) in pairs of f32. The method and
// the coefficients are SLEEF's (Copyright Naoki Shibata and contributors, Boost Software License 1.0, sleef.org).
float sleef_powf(float x, float y) { return exp_pair(product(log_pair(x), y)); }

}  // namespace

void pytorch_pow(float base, std::span<const float> exponents, std::span<float> powers) {
  const std::size_t in_blocks = exponents.size() - exponents.size() % 32;
  for (std::size_t i = 0; i < exponents.size(); ++i)
    powers[i] = i < in_blocks ? sleef_powf(base, exponents[i]) : std::pow(base, exponents[i]);
}

}  // namespace cajal
