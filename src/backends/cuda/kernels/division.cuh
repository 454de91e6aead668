#pragma once
// Quotients rounded once, as `/` rounds them, without its branch: numbers that are divided next to each other do not wait
// for each other. For those that the short way is not right for, somebody has to ask, once for many, and divide with `/`.
#include "backends/cuda/kernels/device.cuh"

namespace cajal::cuda {

class Divisor {
 public:
  __device__ explicit Divisor(float by) : by_(by), usual_(is_usual(by)) {
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse_) : "f"(by));
    inverse_ = fmaf(inverse_, fmaf(-by, inverse_, 1.0f), inverse_);
  }
  __device__ bool right_for(float x) const { return usual_ && is_usual(x); }
  __device__ float quotient(float x) const {
    const float near = x * inverse_;
    return fmaf(inverse_, fmaf(-by_, near, x), near);
  }

 private:
  // Far from where results, or remainders, overflow or lose bits.
  static __device__ bool is_usual(float x) { return fabsf(x) > 0x1p-60f && fabsf(x) < 0x1p60f; }

  float by_, inverse_;
  bool usual_;
};

// silu of each, the bits of silu().
template <int N>
__device__ void silu_of_all(float (&x)[N]) {
  float y[N];
  bool right = true;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const Divisor by(1.0f + expf(-x[i]));
    right = right && by.right_for(x[i]), y[i] = by.quotient(x[i]);
  }
  if (!right) {
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = silu(x[i]);
  }
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = y[i];
}

}  // namespace cajal::cuda
