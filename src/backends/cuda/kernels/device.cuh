#pragma once
// Elements and sums as all kernels do them. Nothing here may depend on how many rows run. The CUDA sources are compiled
// without contraction (--fmad=false): a fused multiply-add stands where it is written and nowhere else.
#include <cuda_bf16.h>

#include "backends/cuda/kernels/rows.h"

namespace cajal::cuda {

using bf16 = __nv_bfloat16;

__device__ inline float load(const bf16& x) { return __bfloat162float(x); }
__device__ inline float load(const float& x) { return x; }
template <class T>
__device__ inline T store(float x);
template <>
__device__ inline bf16 store<bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline float store<float>(float x) {
  return x;
}
// Two at a time: converting one takes as long as an exponential.
__device__ inline std::uint32_t pack_bf16(float lo, float hi) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(lo, hi);
  return *reinterpret_cast<const std::uint32_t*>(&both);
}
template <class T>
__device__ inline float rounded(float x);
template <>
__device__ inline float rounded<float>(float x) {
  return x;
}
template <>
__device__ inline float rounded<bf16>(float x) {
  return __uint_as_float(pack_bf16(0, x));  // f32 whose lower half is zero
}

// Eight bf16 numbers in 16 bytes.
__device__ inline void unpack8(const uint4& raw, float (&out)[8]) {
  const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    out[2 * i] = __uint_as_float(words[i] << 16), out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
}
__device__ inline uint4 pack8(const float (&in)[8]) {
  return {pack_bf16(in[0], in[1]), pack_bf16(in[2], in[3]), pack_bf16(in[4], in[5]), pack_bf16(in[6], in[7])};
}

// Eight consecutive elements; those from `n` on are zero.
template <class T>
__device__ inline void load8(const T* x, int n, float (&out)[8]) {
  if (n >= 8 && reinterpret_cast<std::uintptr_t>(x) % 16 == 0) {
    if constexpr (sizeof(T) == 2) {
      const uint4 raw = *reinterpret_cast<const uint4*>(x);
      const bf16* e = reinterpret_cast<const bf16*>(&raw);
#pragma unroll
      for (int i = 0; i < 8; ++i) out[i] = load(e[i]);
    } else {
      const float4 lo = reinterpret_cast<const float4*>(x)[0], hi = reinterpret_cast<const float4*>(x)[1];
      out[0] = lo.x, out[1] = lo.y, out[2] = lo.z, out[3] = lo.w;
      out[4] = hi.x, out[5] = hi.y, out[6] = hi.z, out[7] = hi.w;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) out[i] = i < n ? load(x[i]) : 0.0f;
}

template <class T>
__device__ inline void store8(T* y, int n, const float (&in)[8]) {
  if (n >= 8 && reinterpret_cast<std::uintptr_t>(y) % 16 == 0) {
    if constexpr (sizeof(T) == 2) {
      *reinterpret_cast<uint4*>(y) = pack8(in);
    } else {
      reinterpret_cast<float4*>(y)[0] = {in[0], in[1], in[2], in[3]};
      reinterpret_cast<float4*>(y)[1] = {in[4], in[5], in[6], in[7]};
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < n) y[i] = store<T>(in[i]);
}

__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(~0u, v, step);
  return v;
}

// The order of sums of squares: groups of eight elements, group g to lane g % kSumLanes, ascending, fused; lanes of 32
// are added by a butterfly, and those sums as (s0 + s1) + (s2 + s3). Vectors of at most 256 elements need one warp: the
// other sums are zero.
constexpr int kSumLanes = 128;

__device__ inline float add_squares(const float (&x)[8], float sum) {
#pragma unroll
  for (int i = 0; i < 8; ++i) sum = fmaf(x[i], x[i], sum);
  return sum;
}
__device__ inline float norm_factor(float squares, int columns, float epsilon) {
  return 1.0f / sqrtf(squares / static_cast<float>(columns) + epsilon);
}
template <class T>
__device__ inline float normed(float x, float factor, float weight) {
  return rounded<T>(x * factor) * weight;
}
// One half of a rotation: x1 cos - x2 sin, with the sign in `sine`.
template <class T>
__device__ inline float rotated(float x1, float cosine, float x2, float sine) {
  return rounded<T>(x1 * cosine) + rounded<T>(x2 * sine);
}
__device__ inline float silu(float x) { return x / (1.0f + expf(-x)); }

// body(bf16{}) or body(float{}), on the host.
template <class Body>
void with_element(Element element, Body&& body) {
  if (element == Element::bf16) return body(bf16{});
  body(float{});
}

}  // namespace cajal::cuda
