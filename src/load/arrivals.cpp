#include "load/arrivals.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "engine/counter_rng.h"

namespace cajal::load {
namespace {

constexpr std::uint32_t kGapStream = 0x67617073;

// One draw of a gamma distribution with scale 1, of numbers that belong to request `index` alone (Marsaglia and Tsang, "A
// simple method for generating gamma variables", 2000).
double draw_gamma(double shape, std::uint64_t seed, std::size_t index) {
  CounterRng rng(seed, kGapStream, index);
  std::uint32_t used = 0;
  // A shape below 1 is one of 1 more, times a power of a uniform number.
  const double factor = shape < 1 ? std::pow(rng.uniform(used++), 1 / shape) : 1;
  const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double radius = std::sqrt(-2 * std::log(rng.uniform(used))),
                 angle = 2 * std::numbers::pi * rng.uniform(used + 1), u = rng.uniform(used + 2);
    used += 3;
    const double x = radius * std::cos(angle), root = 1 + c * x, v = root * root * root;
    if (root > 0 && std::log(u) < x * x / 2 + d - d * v + d * std::log(v)) return d * v * factor;
  }
}

}  // namespace

std::vector<double> arrival_times(std::size_t count, double request_rate, double burstiness, std::uint64_t seed) {
  CAJAL_CHECK(request_rate > 0 && burstiness > 0);
  std::vector<double> times(count, 0.0);
  if (std::isinf(request_rate) || count == 0) return times;
  double at = 0;
  for (std::size_t i = 0; i < count; ++i) times[i] = at += std::isinf(burstiness) ? 1 : draw_gamma(burstiness, seed, i);
  // Draws of very small shapes may all be 0.
  const double scale = at > 0 ? static_cast<double>(count) / request_rate / at : 0;
  for (double& time : times) time *= scale;
  return times;
}

}  // namespace cajal::load
