#pragma once
// Rounding to 8 bits on vectors of any width, as kv_int8.h defines it. V is V of elementwise_vec256.h or elementwise_vec512.h.
// Included *inside* the target region of the file that instantiates it.
#include "backends/cpu/kernels/kv_int8.h"

namespace cajal::cpu {

template <class V, class T>
inline float round_int8(const typename T::Raw* x, std::int64_t n, std::int8_t* integers) {
  auto most = V::zero_magnitudes();
  for (std::int64_t i = 0; i < n; i += V::kLanes)
    most = V::max_magnitudes(most, V::load(x + i, std::min(V::kLanes, n - i)));
  const Int8Rounding r = int8_rounding(V::largest(most));
  if (r.inverse == 0) {
    for (std::int64_t i = 0; i < n; ++i) integers[i] = 0;
    return r.scale;
  }
  const auto inverse = V::set1(r.inverse);
  for (std::int64_t i = 0; i < n; i += V::kLanes) {
    const std::int64_t lanes = std::min(V::kLanes, n - i);
    V::store_int8(integers + i, V::mul(V::load(x + i, lanes), inverse), lanes);
  }
  return r.scale;
}

}  // namespace cajal::cpu
