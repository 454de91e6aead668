#include "backends/cuda/kernels/device.cuh"
#include "backends/cuda/kernels/elementwise.h"
#include "backends/cuda/kernels/launch.cuh"

namespace cajal::cuda {
namespace {

constexpr int kThreads = 128;

template <class T>
__global__ void sigmoid_mul_kernel(SigmoidMulArgs a) {
  follow_previous();
  const std::int64_t groups = (a.columns + 7) / 8, at = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  const std::int64_t row = at / groups, k = at % groups * 8;
  if (row >= a.rows.count()) return;
  const float factor = rounded<T>(1.0f / (1.0f + expf(-load(static_cast<const T*>(a.gate)[row]))));
  const int n = static_cast<int>(min(a.columns - k, static_cast<std::int64_t>(8)));
  float v[8];
  load8(static_cast<const T*>(a.x) + row * a.columns + k, n, v);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = factor * v[i];
  store8(static_cast<T*>(a.y) + row * a.columns + k, n, v);
}

}  // namespace

void sigmoid_mul(const SigmoidMulArgs& a, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((a.rows.most * ((a.columns + 7) / 8) + kThreads - 1) / kThreads);
  with_element(a.element,
               [&](auto t) { launch_kernel(sigmoid_mul_kernel<decltype(t)>, blocks, kThreads, 0, stream, a); });
}

}  // namespace cajal::cuda
