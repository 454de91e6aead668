#pragma once
// When the requests of a load are sent.
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cajal::load {

// Seconds from the beginning at which each of `count` requests is sent, in their order. The gaps are drawn from a gamma
// distribution of shape `burstiness`: 1 makes a Poisson process, less more bursts, more an even stream, infinity equal
// gaps. They are scaled so that the last request goes at count / rate, whatever the seed: rates of two runs are alike. An
// infinite rate sends all at once. `request_rate` (a second) and `burstiness` are above 0.
std::vector<double> arrival_times(std::size_t count, double request_rate, double burstiness, std::uint64_t seed);

}  // namespace cajal::load
