#pragma once
// Norm and rotation of heads of D bf16 numbers as the region
// "qk_norm_rope_kv_write" has them. D / 16 neighbouring lanes have a head: the
// eight numbers from 8 * sub on, and those half a head later, which they rotate
// with.
#include "backends/cuda/kernels/device.cuh"

namespace cajal::cuda {

template <int D>
constexpr int kHeadLanes = D / 16;

struct HalvesOfHead {
  uint4 lo, hi;
};
template <int D>
__device__ inline HalvesOfHead load_head(const void* head, int sub) {
  const auto* from = static_cast<const uint4*>(head) + sub;
  return {from[0], from[kHeadLanes<D>]};
}
template <int D>
__device__ inline void store_head(void* head, int sub, const HalvesOfHead& v) {
  auto* to = static_cast<uint4*>(head) + sub;
  to[0] = v.lo, to[kHeadLanes<D>] = v.hi;
}

__device__ inline void unpack(const uint4& raw, float (&out)[8]) {
  const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = __uint_as_float(words[i] << 16);
    out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

__device__ inline uint4 pack(const float (&v)[8]) {
  return {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])};
}

// `angles` are the row's: cosines and sines. All lanes of the warp take part.
template <int D>
__device__ __forceinline__ HalvesOfHead norm_and_rotate(const HalvesOfHead& x, const HalvesOfHead& weight,
                                                        const HalvesOfHead& angles, float epsilon) {
  float lo[8], hi[8], w[8], cosine[8], sine[8];
  unpack(x.lo, lo);
  unpack(x.hi, hi);
  float squares = add_squares(lo, 0) + add_squares(hi, 0);
#pragma unroll
  for (int step = kHeadLanes<D> / 2; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
  const float factor = norm_factor(squares, D, epsilon);
  unpack(weight.lo, w);
#pragma unroll
  for (int i = 0; i < 8; ++i) lo[i] = rounded<bf16>(normed<bf16>(lo[i], factor, w[i]));
  unpack(weight.hi, w);
#pragma unroll
  for (int i = 0; i < 8; ++i) hi[i] = rounded<bf16>(normed<bf16>(hi[i], factor, w[i]));
  unpack(angles.lo, cosine);
  unpack(angles.hi, sine);
  float to_lo[8], to_hi[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    to_lo[i] = rotated<bf16>(lo[i], cosine[i], hi[i], -sine[i]);
    to_hi[i] = rotated<bf16>(hi[i], cosine[i], lo[i], sine[i]);
  }
  return {pack(to_lo), pack(to_hi)};
}

}  // namespace cajal::cuda
